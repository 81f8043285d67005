// A convolution of a few maps x[N][M][H][W] into one y[N][H][W], of the same size under an odd kernel w[M][K][L].
// With one output map a general convolution has no reuse of its inputs.

#define EDGE 32               // zeros beside a row: kernels of up to 2 · EDGE + 1 columns
#define TALL 8                // rows of the result per step
#define WIDE (CHUNK - 2 * EDGE)

// sum[k] += Σ_b v[k + b] · w[b], or with the kernel reversed.
static inline __attribute__((always_inline)) void FN(taps)(A *sum, const A *v, const A *w, int64_t n, int64_t L,
                                                           int64_t turned) {
    SIMD for (int64_t k = 0; k < n; k++) {
        A s = sum[k];
        for (int64_t b = 0; b < L; b++) s += v[k + b] * w[turned ? L - 1 - b : b];
        sum[k] = s;
    }
}

static inline void FN(convolve_row)(A *sum, const A *v, const A *w, int64_t n, int64_t L, int64_t turned) {
    if (L == 7) FN(taps)(sum, v, w, n, 7, turned);
    else if (L == 3) FN(taps)(sum, v, w, n, 3, turned);
    else FN(taps)(sum, v, w, n, L, turned);
}

// sum[b] += Σ_k given[L - 1 - b + k] · v[k], in lanes.
static inline __attribute__((always_inline)) void FN(tap_sums)(FN(Lanes) *sum, const A *given, const A *v, int64_t n,
                                                               int64_t L) {
    for (int64_t k = 0; k < n; k += LANES) {
        FN(Lanes) t = FN(up_to)(v + k, n - k, v + n);
        for (int64_t b = 0; b < L; b++) sum[b] += t * *(const FN(Lanes) *)(const void *)(given + L - 1 - b + k);
    }
}

static inline void FN(kernel_sums)(FN(Lanes) *sum, const A *given, const A *v, int64_t n, int64_t L) {
    if (L == 7) FN(tap_sums)(sum, given, v, n, 7);
    else if (L == 3) FN(tap_sums)(sum, given, v, n, 3);
    else FN(tap_sums)(sum, given, v, n, L);
}

// A row of n values from column `left` on, with L / 2 more on either side, zeros beyond the ends of the map.
// `to` has room for CHUNK + LANES.
static inline void FN(framed)(const T *row, A *to, int64_t left, int64_t n, int64_t L, int64_t W) {
    A in[CHUNK];
    int64_t from = left - L / 2, lo = from < 0 ? -from : 0, hi = MIN(n + L - 1, W - from);
    memset(to, 0, (size_t)lo * sizeof(A));
    const A *v = FN(load)(row + from + lo, hi - lo, in);
    memcpy(to + lo, v, (size_t)(hi - lo) * sizeof(A));
    memset(to + hi, 0, (size_t)(n + L - 1 + LANES - hi) * sizeof(A));
}

// K, L ≤ 2 · EDGE + 1.
void FN(convolve)(const T *x, const A *w, T *y, int64_t K, int64_t L, int64_t N, int64_t M, int64_t H, int64_t W,
                  int64_t threads) {
    int64_t blocks = (H + TALL - 1) / TALL;
    PARALLEL {
        A sum[TALL][WIDE], row[CHUNK + LANES];
        for (int64_t task = LO(N * blocks), end = HI(N * blocks); task < end; task++) {
            int64_t n_ = task / blocks, top = task % blocks * TALL, bottom = MIN(top + TALL, H);
            for (int64_t left = 0; left < W; left += WIDE) {
                int64_t n = MIN(WIDE, W - left);
                for (int64_t h = top; h < bottom; h++) memset(sum[h - top], 0, (size_t)n * sizeof(A));
                for (int64_t m = 0; m < M; m++)
                    for (int64_t r = top - K / 2; r < bottom + K / 2; r++) {
                        if (r < 0 || r >= H) continue;
                        FN(framed)(x + ((n_ * M + m) * H + r) * W, row, left, n, L, W);
                        for (int64_t h = top > r - K / 2 ? top : r - K / 2; h < bottom && h <= r + K / 2; h++)
                            FN(convolve_row)(sum[h - top], row, w + (m * K + r - h + K / 2) * L, n, L, 0);
                    }
                for (int64_t h = top; h < bottom; h++) {
                    T *to = y + (n_ * H + h) * W + left;
                    A *out = FN(target)(to, row, 0);
                    memcpy(out, sum[h - top], (size_t)n * sizeof(A));
                    FN(finish)(to, out, n, 0);
                }
            }
        }
    }
}

// Backward: the gradient of x, and of w in one part for each sample, [N][M][K][L].
void FN(convolve_back)(const T *x, const T *dy, const A *w, T *dx, A *dw, int64_t K, int64_t L, int64_t N, int64_t M,
                       int64_t H, int64_t W, int64_t threads) {
    PARALLEL {
        A sum[WIDE], in[CHUNK], given[CHUNK + LANES];
        FN(Lanes) sums[K * L];
        for (int64_t task = LO(N * M), end = HI(N * M); task < end; task++) {
            int64_t n_ = task / M, m = task % M;
            A *part = dw + task * K * L;
            memset(part, 0, (size_t)(K * L) * sizeof(A));
            for (int64_t h = 0; h < H; h++) {
                if (h % 32 == 0)  // sums of sums keep their last bits
                    for (int64_t t = 0; t < K * L; t++) sums[t] = (FN(Lanes)){0};
                for (int64_t left = 0; left < W; left += WIDE) {
                    int64_t n = MIN(WIDE, W - left);
                    const A *v = FN(load)(x + (task * H + h) * W + left, n, in);
                    memset(sum, 0, (size_t)n * sizeof(A));
                    for (int64_t a = 0; a < K; a++) {
                        int64_t from = h - a + K / 2;
                        if (from < 0 || from >= H) continue;
                        FN(framed)(dy + (n_ * H + from) * W, given, left, n, L, W);
                        FN(convolve_row)(sum, given, w + (m * K + a) * L, n, L, 1);
                        FN(kernel_sums)(sums + a * L, given, v, n, L);
                    }
                    T *to = dx + (task * H + h) * W + left;
                    A *out = FN(target)(to, given, 0);
                    memcpy(out, sum, (size_t)n * sizeof(A));
                    FN(finish)(to, out, n, 0);
                }
                if (h % 32 == 31 || h + 1 == H)
                    for (int64_t t = 0; t < K * L; t++) part[t] += FN(across)(sums[t]);
            }
        }
    }
}
