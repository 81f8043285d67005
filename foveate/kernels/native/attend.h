// The mean of a map's positions, weighted by the softmax of w · x + b over them, in one read: each of S segments of the
// positions tracks its largest logit and rescales its sums when that grows.
//   logits[N][P], largest[N][S], weight[N][S], context[N][S][C]

static inline void FN(raise)(A *largest, A *weight, A *context, A now, int64_t channels) {
    if (!(now <= *largest)) {
        A factor = *largest == -INFINITY ? 0 : EXP(*largest - now);
        *largest = now, *weight *= factor;
        for (int64_t c = 0; c < channels; c++) context[c] *= factor;
    }
}

// Positions are columns.
void FN(attend_rows)(const T *x, const A *w, const A *b, A *logits, A *largest, A *weight, A *context, int64_t S,
                     int64_t width, int64_t N, int64_t I, int64_t J, int64_t threads) {
    PARALLEL {
        A buffer[CHUNK], power[CHUNK];
        for (int64_t task = LO(N * S), end = HI(N * S); task < end; task++) {
            int64_t n_ = task / S, from = task % S * J / S, to = (task % S + 1) * J / S;
            A *sum = context + task * I, z = 0, most = -INFINITY;
            memset(sum, 0, (size_t)I * sizeof(A));
            for (int64_t j = from; j < to; j += width) {
                int64_t n = MIN(width, to - j);
                A *l = logits + n_ * J + j, peak = -INFINITY;
                for (int64_t k = 0; k < n; k++) l[k] = *b;
                for (int64_t i = 0; i < I; i++) {
                    const A *v = FN(load)(x + (n_ * I + i) * J + j, n, buffer);
                    A f = w[i];
                    SIMD for (int64_t k = 0; k < n; k++) l[k] += v[k] * f;
                }
                for (int64_t k = 0; k < n; k++) peak = l[k] > peak ? l[k] : peak;
                FN(raise)(&most, &z, sum, peak, I);
                A base = most == -INFINITY ? 0 : most;
                SIMD for (int64_t k = 0; k < n; k++) power[k] = EXP(l[k] - base);
                z += FN(total)(power, n);
                for (int64_t i = 0; i < I; i++) {
                    const A *v = FN(load)(x + (n_ * I + i) * J + j, n, buffer);
                    sum[i] += FN(dot)(v, power, n);
                }
            }
            largest[task] = most, weight[task] = z;
        }
    }
}

// Positions are rows.
void FN(attend_columns)(const T *x, const A *w, const A *b, A *logits, A *largest, A *weight, A *context, int64_t S,
                        int64_t width, int64_t N, int64_t I, int64_t J, int64_t threads) {
    PARALLEL {
        A buffer[CHUNK];
        for (int64_t task = LO(N * S), end = HI(N * S); task < end; task++) {
            int64_t n_ = task / S, from = task % S * I / S, to = (task % S + 1) * I / S;
            A *sum = context + task * J, z = 0, most = -INFINITY;
            memset(sum, 0, (size_t)J * sizeof(A));
            for (int64_t top = from; top < to; top += width) {
                A peak = -INFINITY;
                for (int64_t i = top; i < MIN(top + width, to); i++) {
                    A l = *b;
                    for (int64_t j = 0; j < J; j += CHUNK) {
                        int64_t n = MIN(CHUNK, J - j);
                        const A *v = FN(load)(x + (n_ * I + i) * J + j, n, buffer);
                        l += FN(dot)(v, w + j, n);
                    }
                    logits[n_ * I + i] = l;
                    peak = l > peak ? l : peak;
                }
                FN(raise)(&most, &z, sum, peak, J);
                A base = most == -INFINITY ? 0 : most;
                for (int64_t i = top; i < MIN(top + width, to); i++) {
                    A power = EXP(logits[n_ * I + i] - base);
                    z += power;
                    for (int64_t j = 0; j < J; j += CHUNK) {
                        int64_t n = MIN(CHUNK, J - j);
                        const A *v = FN(load)(x + (n_ * I + i) * J + j, n, buffer);
                        SIMD for (int64_t k = 0; k < n; k++) sum[j + k] += v[k] * power;
                    }
                }
            }
            largest[task] = most, weight[task] = z;
        }
    }
}

// Backward: from the gradient d[N][C] of the context and its product k[N] with it, the gradient of every logit,
//   a · (d · x − k), and parts of the gradient of w, their sum over positions of that times x: out[N][S][C].
void FN(attend_rows_back)(const T *x, const A *a, const A *d, const A *k_, A *logits, A *out, int64_t S, int64_t width,
                          int64_t N, int64_t I, int64_t J, int64_t threads) {
    PARALLEL {
        A buffer[CHUNK];
        for (int64_t task = LO(N * S), end = HI(N * S); task < end; task++) {
            int64_t n_ = task / S, from = task % S * J / S, to = (task % S + 1) * J / S;
            A *sum = out + task * I;
            memset(sum, 0, (size_t)I * sizeof(A));
            for (int64_t j = from; j < to; j += width) {
                int64_t n = MIN(width, to - j);
                A *l = logits + n_ * J + j;
                const A *weight = a + n_ * J + j;
                for (int64_t k = 0; k < n; k++) l[k] = 0;
                for (int64_t i = 0; i < I; i++) {
                    const A *v = FN(load)(x + (n_ * I + i) * J + j, n, buffer);
                    A f = d[n_ * I + i];
                    SIMD for (int64_t k = 0; k < n; k++) l[k] += v[k] * f;
                }
                SIMD for (int64_t k = 0; k < n; k++) l[k] = weight[k] * (l[k] - k_[n_]);
                for (int64_t i = 0; i < I; i++) {
                    const A *v = FN(load)(x + (n_ * I + i) * J + j, n, buffer);
                    sum[i] += FN(dot)(v, l, n);
                }
            }
        }
    }
}

void FN(attend_columns_back)(const T *x, const A *a, const A *d, const A *k_, A *logits, A *out, int64_t S,
                             int64_t width, int64_t N, int64_t I, int64_t J, int64_t threads) {
    (void)width;
    PARALLEL {
        A buffer[CHUNK];
        for (int64_t task = LO(N * S), end = HI(N * S); task < end; task++) {
            int64_t n_ = task / S, from = task % S * I / S, to = (task % S + 1) * I / S;
            A *sum = out + task * J;
            memset(sum, 0, (size_t)J * sizeof(A));
            for (int64_t i = from; i < to; i++) {
                A l = 0;
                for (int64_t j = 0; j < J; j += CHUNK) {
                    int64_t n = MIN(CHUNK, J - j);
                    const A *v = FN(load)(x + (n_ * I + i) * J + j, n, buffer), *f = d + n_ * J + j;
                    l += FN(dot)(v, f, n);
                }
                l = a[n_ * I + i] * (l - k_[n_]);
                logits[n_ * I + i] = l;
                for (int64_t j = 0; j < J; j += CHUNK) {
                    int64_t n = MIN(CHUNK, J - j);
                    const A *v = FN(load)(x + (n_ * I + i) * J + j, n, buffer);
                    SIMD for (int64_t k = 0; k < n; k++) sum[j + k] += v[k] * l;
                }
            }
        }
    }
}
