// Gradients of the gate that the channels of a map were scaled by before they were pooled at each position:
// sums over positions of x · (even + hot where this channel was the largest).

// Positions are columns: out[N][I].
void FN(rows_weighted)(const T *x, const A *even, const int32_t *at, const A *hot, A *out, int64_t N, int64_t I,
                       int64_t J, int64_t threads) {
    PARALLEL {
        A buffer[CHUNK];
        for (int64_t r = LO(N * I), end = HI(N * I); r < end; r++) {
            int32_t mine = (int32_t)(r % I);
            double whole = 0;
            for (int64_t j = 0; j < J; j += CHUNK) {
                int64_t n = MIN(CHUNK, J - j), c = r / I * J + j;
                const A *v = FN(load)(x + r * J + j, n, buffer);
                A part = 0;
                _Pragma("omp simd reduction(+ : part)") for (int64_t k = 0; k < n; k++)
                    part += v[k] * (even[c + k] + (at[c + k] == mine ? hot[c + k] : 0));
                whole += part;
            }
            out[r] = (A)whole;
        }
    }
}

// Positions are rows: out[N][S][J], S parts to be added up.
void FN(columns_weighted)(const T *x, const A *even, const int32_t *at, const A *hot, A *out, int64_t S, int64_t N,
                          int64_t I, int64_t J, int64_t threads) {
    PARALLEL {
        A buffer[CHUNK], part[CHUNK];
        for (int64_t task = LO(N * S), end = HI(N * S); task < end; task++) {
            int64_t n_ = task / S, from = task % S * I / S, to = (task % S + 1) * I / S;
            A *sum = out + task * J;
            memset(sum, 0, (size_t)J * sizeof(A));
            for (int64_t j = 0; j < J; j += CHUNK) {
                int64_t n = MIN(CHUNK, J - j);
                for (int64_t top = from; top < to; top += 32) {
                    memset(part, 0, sizeof part);
                    for (int64_t i = top; i < MIN(top + 32, to); i++) {
                        int64_t r = n_ * I + i;
                        const A *v = FN(load)(x + r * J + j, n, buffer);
                        A weight = even[r];
                        SIMD for (int64_t k = 0; k < n; k++) part[k] += v[k] * weight;
                        if (at[r] >= j && at[r] < j + n) part[at[r] - j] += v[at[r] - j] * hot[r];
                    }
                    for (int64_t k = 0; k < n; k++) sum[j + k] += part[k];
                }
            }
        }
    }
}
