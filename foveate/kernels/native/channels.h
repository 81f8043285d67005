// Gradients of the gate that the channels of a map were scaled by before they were pooled at each position:
// sums over positions of x · (even + hot where this channel was the largest).

// Positions are columns: out[N][I]. Which row a column's largest is in is looked up while its block is in the cache.
void FN(rows_weighted)(const T *x, const A *even, const int32_t *at, const A *hot, A *out, int64_t N, int64_t I,
                       int64_t J, int64_t threads) {
    int64_t blocks = (I + TOGETHER - 1) / TOGETHER;
    PARALLEL {
        A buffer[CHUNK];
        for (int64_t task = LO(N * blocks), end = HI(N * blocks); task < end; task++) {
            int64_t n_ = task / blocks, top = task % blocks * TOGETHER, rows = MIN(TOGETHER, I - top);
            const T *from = x + (n_ * I + top) * J;
            double whole[TOGETHER] = {0};
            for (int64_t q = 0; q < rows; q++)
                for (int64_t j = 0; j < J; j += CHUNK) {
                    int64_t n = MIN(CHUNK, J - j);
                    whole[q] += FN(dot)(FN(load)(from + q * J + j, n, buffer), even + n_ * J + j, n);
                }
            for (int64_t j = 0; j < J; j++) {
                int64_t q = at[n_ * J + j] - top;
                if (q >= 0 && q < rows) whole[q] += *FN(load)(from + q * J + j, 1, buffer) * hot[n_ * J + j];
            }
            for (int64_t q = 0; q < rows; q++) out[n_ * I + top + q] = (A)whole[q];
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
