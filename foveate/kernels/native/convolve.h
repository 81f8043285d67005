// A convolution of a few maps x[N][M][H][W] into one y[N][H][W], of the same size under an odd kernel w[M][K][L].
// One thread works on one sample: with one output map, a general convolution finds nothing to share out.

void FN(convolve)(const T *x, const A *w, T *y, int64_t K, int64_t L, int64_t N, int64_t M, int64_t H, int64_t W,
                  int64_t threads) {
    PARALLEL {
        A sum[CHUNK], in[CHUNK];
        for (int64_t task = LO(N * H), end = HI(N * H); task < end; task++) {
            int64_t n_ = task / H, h = task % H;
            for (int64_t left = 0; left < W; left += CHUNK) {
                int64_t n = MIN(CHUNK, W - left);
                memset(sum, 0, sizeof sum);
                for (int64_t m = 0; m < M; m++)
                    for (int64_t a = 0; a < K; a++) {
                        int64_t from = h + a - K / 2;
                        if (from < 0 || from >= H) continue;
                        const T *row = x + ((n_ * M + m) * H + from) * W;
                        for (int64_t b = 0; b < L; b++) {
                            int64_t shift = b - L / 2, lo = left + shift < 0 ? -shift - left : 0;
                            int64_t hi = MIN(n, W - left - shift);
                            A f = w[(m * K + a) * L + b];
                            if (hi <= lo) continue;
                            const A *v = FN(load)(row + left + shift + lo, hi - lo, in);
                            SIMD for (int64_t k = lo; k < hi; k++) sum[k] += v[k - lo] * f;
                        }
                    }
                A *out = FN(target)(y + task * W + left, in, 0);
                memcpy(out, sum, (size_t)n * sizeof(A));
                FN(finish)(y + task * W + left, out, n, 0);
            }
        }
    }
}

// Back: the gradient of x, and of w in one part for each sample, [N][M][K][L].
void FN(convolve_back)(const T *x, const T *dy, const A *w, T *dx, A *dw, int64_t K, int64_t L, int64_t N, int64_t M,
                       int64_t H, int64_t W, int64_t threads) {
    PARALLEL {
        A sum[CHUNK], in[CHUNK], given[CHUNK];
        for (int64_t task = LO(N * M), end = HI(N * M); task < end; task++) {
            int64_t n_ = task / M, m = task % M;
            A *part = dw + task * K * L;
            memset(part, 0, (size_t)(K * L) * sizeof(A));
            for (int64_t h = 0; h < H; h++)
                for (int64_t left = 0; left < W; left += CHUNK) {
                    int64_t n = MIN(CHUNK, W - left);
                    memset(sum, 0, sizeof sum);
                    for (int64_t a = 0; a < K; a++) {
                        int64_t from = h - a + K / 2;
                        if (from < 0 || from >= H) continue;
                        const T *row = dy + (n_ * H + from) * W;
                        for (int64_t b = 0; b < L; b++) {
                            int64_t shift = L / 2 - b, lo = left + shift < 0 ? -shift - left : 0;
                            int64_t hi = MIN(n, W - left - shift);
                            A f = w[(m * K + a) * L + b], s = 0;
                            if (hi <= lo) continue;
                            const A *d = FN(load)(row + left + shift + lo, hi - lo, given);
                            const A *v = FN(load)(x + (task * H + h) * W + left + lo, hi - lo, in);
                            _Pragma("omp simd reduction(+ : s)") for (int64_t k = lo; k < hi; k++) {
                                sum[k] += d[k - lo] * f;
                                s += d[k - lo] * v[k - lo];
                            }
                            part[a * L + b] += s;
                        }
                    }
                    A *out = FN(target)(dx + (task * H + h) * W + left, in, 0);
                    memcpy(out, sum, (size_t)n * sizeof(A));
                    FN(finish)(dx + (task * H + h) * W + left, out, n, 0);
                }
        }
    }
}
