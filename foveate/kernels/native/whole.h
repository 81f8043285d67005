// Whole mechanisms, a sample at a time: every pass after the first finds the sample in the cache.
// Maps are channels first, [N][C][P], or channels last where `last`.

// Runs the body for every sample n. The threads divide the samples; with too few samples, `inner` threads divide the passes
// over each. (A parallel region of one thread around these would create a team for every pass.) The body contains no
// pragma, which compilers drop from a macro's argument.
#define BY_SAMPLE(n, ...)                                                                               \
    const int64_t inner = threads > 1 && N < 4 * threads && N % threads ? threads : 1;                  \
    if (inner > 1) {                                                                                    \
        for (int64_t n = 0; n < N; n++) __VA_ARGS__                                                     \
    } else {                                                                                            \
        PARALLEL for (int64_t n = LO(N), end_ = HI(N); n < end_; n++) __VA_ARGS__                       \
    }

// out = W · v + b, W[rows][columns].
static void FN(dense)(const A *w, const A *b, const A *v, A *out, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i++) {
        A sum = FN(dot)(w + i * columns, v, columns);
        out[i] = b ? sum + b[i] : sum;
    }
}

// out = Wᵀ · v.
static void FN(dense_back)(const A *w, const A *v, A *out, int64_t rows, int64_t columns) {
    memset(out, 0, (size_t)columns * sizeof(A));
    for (int64_t i = 0; i < rows; i++) SIMD for (int64_t j = 0; j < columns; j++) out[j] += w[i * columns + j] * v[i];
}

static void FN(sigmoid)(A *v, int64_t n) {
    SIMD for (int64_t k = 0; k < n; k++) v[k] = SIGMOID(v[k]);
}

static void FN(relu)(A *v, int64_t n) {
    SIMD for (int64_t k = 0; k < n; k++) v[k] = v[k] < 0 ? 0 : v[k];
}

// Means and, if max is not null, maxima of the channels of one sample.
static void FN(pools)(const T *x, A *mean, A *max, int64_t C, int64_t P, int64_t last, int64_t threads) {
    if (last) FN(column_sums)(x, 0, mean, max, 0, 0, 1, P, C, threads);
    else FN(row_sums)(x, 0, mean, max, 0, 0, 0, 1, C, P, threads);
    for (int64_t c = 0; c < C; c++) mean[c] /= (A)P;
}

static void FN(gate)(const T *x, const A *channel, const A *position, const A *added, T *y, int64_t C, int64_t P,
                     int64_t last, int64_t past, int64_t threads) {
    if (last) FN(scale)(x, position, channel, 0, added, y, 1, P, C, past, threads);
    else FN(scale)(x, channel, position, added, 0, y, 1, C, P, past, threads);
}

// y = x · σ(W₂ ReLU(W₁ mean + b₁) + b₂). Also written, for backward: mean, hidden and gate of every sample.
void FN(squeeze_excite)(const T *x, const A *w1, const A *b1, const A *w2, const A *b2, T *y, A *mean, A *hidden,
                        A *gate, int64_t H, int64_t N, int64_t C, int64_t P, int64_t last, int64_t past,
                        int64_t threads) {
    BY_SAMPLE(n, {
        A *m = mean + n * C, *h = hidden + n * H, *g = gate + n * C;
        FN(pools)(x + n * C * P, m, 0, C, P, last, inner);
        FN(dense)(w1, b1, m, h, H, C);
        FN(relu)(h, H);
        FN(dense)(w2, b2, h, g, C, H);
        FN(sigmoid)(g, C);
        FN(gate)(x + n * C * P, g, 0, 0, y + n * C * P, C, P, last, past, inner);
    })
}

// y = x · σ(w ∗ mean): a kernel of K channels along the channels, the same for all, or one for each where `own`.
void FN(convolve_channels)(const T *x, const A *w, T *y, A *mean, A *gate, int64_t K, int64_t own, int64_t N,
                           int64_t C, int64_t P, int64_t last, int64_t past, int64_t threads) {
    BY_SAMPLE(n, {
        A *m = mean + n * C, *g = gate + n * C;
        FN(pools)(x + n * C * P, m, 0, C, P, last, inner);
        for (int64_t c = 0; c < C; c++) {
            int64_t from = c - K / 2, lo = from < 0 ? -from : 0, hi = MIN(K, C - from);
            const A *kernel = own ? w + c * K : w;
            A sum = 0;
            for (int64_t k = lo; k < hi; k++) sum += kernel[k] * m[from + k];
            g[c] = sum;
        }
        FN(sigmoid)(g, C);
        FN(gate)(x + n * C * P, g, 0, 0, y + n * C * P, C, P, last, past, inner);
    })
}

// The gradient of the logits of a channel gate, from one read of x and dy in S segments of the rows.
static void FN(logit_gradient)(const T *x, const T *dy, const A *gate, A *d, A *scratch, int64_t S, int64_t C, int64_t P,
                               int64_t last, int64_t threads) {
    if (last) {
        FN(products)(x, dy, 0, 0, 0, scratch, 0, 0, scratch + S * C, S, 1, P, C, threads);
        memset(d, 0, (size_t)C * sizeof(A));
        for (int64_t s = 0; s < S; s++) SIMD for (int64_t c = 0; c < C; c++) d[c] += scratch[s * C + c];
    } else {
        FN(products)(x, dy, 0, 0, d, 0, 0, 0, scratch, S, 1, C, P, threads);
    }
    SIMD for (int64_t c = 0; c < C; c++) d[c] *= gate[c] * (1 - gate[c]);
}

// Backward: dx, and the gradients of both layers' outputs for every sample, [N][C] and [N][H].
// Scratch of (S + 3) · C values a thread.
void FN(squeeze_excite_back)(const T *x, const T *dy, const A *w1, const A *w2, const A *hidden, const A *gate, T *dx,
                             A *d_logits, A *d_hidden, A *scratch, int64_t S, int64_t H, int64_t N, int64_t C,
                             int64_t P, int64_t last, int64_t past, int64_t threads) {
    BY_SAMPLE(n, {
        A *d = d_logits + n * C, *dh = d_hidden + n * H, *own = scratch + omp_get_thread_num() * (S + 3) * C;
        const A *h = hidden + n * H, *g = gate + n * C;
        FN(logit_gradient)(x + n * C * P, dy + n * C * P, g, d, own, S, C, P, last, inner);
        FN(dense_back)(w2, d, dh, C, H);
        for (int64_t k = 0; k < H; k++) dh[k] = h[k] <= 0 ? 0 : dh[k];
        FN(dense_back)(w1, dh, own, H, C);
        for (int64_t c = 0; c < C; c++) own[c] /= (A)P;
        FN(gate)(dy + n * C * P, g, 0, own, dx + n * C * P, C, P, last, past, inner);
    })
}

void FN(convolve_channels_back)(const T *x, const T *dy, const A *w, const A *gate, T *dx, A *d_logits, A *scratch,
                                int64_t S, int64_t K, int64_t own_, int64_t N, int64_t C, int64_t P, int64_t last,
                                int64_t past, int64_t threads) {
    BY_SAMPLE(n, {
        A *d = d_logits + n * C, *own = scratch + omp_get_thread_num() * (S + 3) * C;
        const A *g = gate + n * C;
        FN(logit_gradient)(x + n * C * P, dy + n * C * P, g, d, own, S, C, P, last, inner);
        for (int64_t c = 0; c < C; c++) {
            A sum = 0;
            for (int64_t k = 0; k < K; k++) {
                int64_t from = c + K / 2 - k;
                if (from >= 0 && from < C) sum += (own_ ? w[from * K + k] : w[k]) * d[from];
            }
            own[c] = sum / (A)P;
        }
        FN(gate)(dy + n * C * P, g, 0, own, dx + n * C * P, C, P, last, past, inner);
    })
}

#if WHICH != IS_bf16
// The rest has no backward pass. Its small maps have the type of the computation.

static inline double FN(real)(int64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void FN(affine_sigmoid)(A *v, A slope, A shift, int64_t n) {
    SIMD for (int64_t k = 0; k < n; k++) v[k] = SIGMOID(v[k] * slope + shift);
}

static void FN(add_times)(A *to, const A *from, A factor, int64_t n) {
    SIMD for (int64_t k = 0; k < n; k++) to[k] += from[k] * factor;
}

// Channel gate from means and maxima through one network, then a gate of positions from a convolution over the maximum
// and the mean of the gated channels: CBAM. Scratch of 3 · C + 2 · H + 3 · P values a thread.
//   norm: mean, variance, weight and bias of the batch norm after the convolution, or null
//   Without y, the inputs of a batch norm over all samples are written instead: the channel gates, [N][C], and the
//   results of the convolution, [N][P].
void FN(cbam)(const T *x, const A *w1, const A *b1, const A *w2, const A *b2, const A *w, const A *const *norm, T *y,
              A *channel, A *logits, A *scratch, int64_t eps, int64_t max_first, int64_t K, int64_t H, int64_t N, int64_t C, int64_t height,
              int64_t width, int64_t last, int64_t past, int64_t threads) {
    int64_t P = height * width;
    A slope = 1, shift = 0;
    if (norm) {
        slope = (A)(1 / sqrt((double)*norm[1] + FN(real)(eps))) * (norm[2] ? *norm[2] : 1);
        shift = (norm[3] ? *norm[3] : 0) - *norm[0] * slope;
    }
    BY_SAMPLE(n, {
        A *mean = scratch + omp_get_thread_num() * (3 * C + 2 * H + 3 * P), *max = mean + C, *g = max + C;
        A *h = g + C, *h2 = h + H, *maps = h2 + H, *position = y ? maps + 2 * P : logits + n * P;
        A *most = max_first ? maps : maps + P, *even = max_first ? maps + P : maps;
        const T *from = x + n * C * P;
        FN(pools)(from, mean, max, C, P, last, inner);
        FN(dense)(w1, b1, mean, h, H, C);
        FN(dense)(w1, b1, max, h2, H, C);
        FN(relu)(h, H);
        FN(relu)(h2, H);
        FN(dense)(w2, b2, h, g, C, H);
        FN(dense)(w2, b2, h2, max, C, H);
        for (int64_t c = 0; c < C; c++) g[c] += max[c];
        FN(sigmoid)(g, C);
        if (last) FN(row_sums)(from, g, even, most, 0, 0, 0, 1, P, C, inner);
        else FN(column_sums)(from, g, even, most, 0, 0, 1, C, P, inner);
        for (int64_t k = 0; k < P; k++) even[k] /= (A)C;
        FN(convolve)(maps, w, position, K, K, 1, 2, height, width, inner);
        if (!y) {
            memcpy(channel + n * C, g, (size_t)C * sizeof(A));
            continue;
        }
        FN(affine_sigmoid)(position, slope, shift, P);
        FN(gate)(from, g, position, 0, y + n * C * P, C, P, last, past, inner);
    })
}

// to += Σ_q factor[q] · from[q], rows of n values.
static void FN(combine)(A *to, const A *from, const A *factor, int64_t count, int64_t n) {
    int64_t q = 0;
    for (; q + 4 <= count; q += 4) {
        const A f = factor[q], g = factor[q + 1], h = factor[q + 2], i = factor[q + 3];
        const A *a = from + q * n, *b = a + n, *c = b + n, *d = c + n;
        SIMD for (int64_t j = 0; j < n; j++) to[j] += f * a[j] + g * b[j] + (h * c[j] + i * d[j]);
    }
    for (; q < count; q++) SIMD for (int64_t j = 0; j < n; j++) to[j] += factor[q] * from[q * n + j];
}

static void FN(affine_hard_swish)(A *to, A slope, A shift, int64_t n) {
    SIMD for (int64_t j = 0; j < n; j++) {
        A v = to[j] * slope + shift, part = v + 3;
        part = part < 0 ? 0 : part;
        to[j] = v * (part > 6 ? 6 : part) / 6;
    }
}

// One layer with its batch norm and hard swish over the sums of C strips, each of n sums of `count` values: [C][n] to
// hidden[H][n], or, where strips are short, to hidden[n][H], for then the dot products are the longer ones.
static void FN(reduce_strips)(const A *strips, const A *w, const A *b, const A *const *norm, double eps, A *hidden,
                              A *turned, int64_t count, int64_t brief, int64_t H, int64_t C, int64_t n) {
    if (brief)
        for (int64_t c = 0; c < C; c++)
            for (int64_t j = 0; j < n; j++) turned[j * C + c] = strips[c * n + j];
    for (int64_t h = 0; h < H; h++) {
        A slope = (A)(1 / sqrt((double)norm[1][h] + eps)) * (norm[2] ? norm[2][h] : 1);
        A shift = ((b ? b[h] : 0) - norm[0][h]) * slope + (norm[3] ? norm[3][h] : 0), one;
        for (int64_t j = 0; brief && j < n; j++) {
            one = FN(dot)(w + h * C, turned + j * C, C);
            FN(affine_hard_swish)(&one, slope / (A)count, shift, 1);
            hidden[j * H + h] = one;
        }
        if (brief) continue;
        memset(hidden + h * n, 0, (size_t)n * sizeof(A));
        FN(combine)(hidden + h * n, strips, w + h * C, C, n);
        FN(affine_hard_swish)(hidden + h * n, slope / (A)count, shift, n);
    }
}

// gates[C][n] = σ(W · hidden + b).
static void FN(expand_strips)(const A *hidden, const A *w, const A *b, A *gates, int64_t brief, int64_t H, int64_t C,
                              int64_t n) {
    for (int64_t c = 0; c < C; c++) {
        A *to = gates + c * n, start = b ? b[c] : 0;
        for (int64_t j = 0; j < n; j++) to[j] = brief ? start + FN(dot)(w + c * H, hidden + j * H, H) : start;
        if (!brief) FN(combine)(to, hidden, w + c * H, H, n);
    }
    FN(sigmoid)(gates, C * n);
}

// Means of rows and columns through one layer with its batch norm and hard swish, then a gate for each: coordinate
// attention, channels first. Scratch of (2 · C + H) · (height + width) values a thread.
void FN(coordinate)(const T *x, const A *w, const A *b, const A *const *norm, const A *of_rows, const A *b_rows,
                    const A *of_columns, const A *b_columns, T *y, A *scratch, int64_t eps, int64_t H, int64_t N,
                    int64_t C, int64_t height, int64_t width, int64_t past, int64_t threads) {
    int64_t L = height + width, P = height * width, brief = H >= 16 && L < 32;
    BY_SAMPLE(n, {
        A *rows = scratch + omp_get_thread_num() * (2 * C + H) * L, *columns = rows + C * height;
        A *by_row = columns + C * width, *by_column = by_row + H * height, *gates = by_column + H * width;
        FN(strip_sums)(x + n * C * P, rows, columns, C, height, width, 1, inner);
        FN(reduce_strips)(rows, w, b, norm, FN(real)(eps), by_row, gates, width, brief, H, C, height);
        FN(reduce_strips)(columns, w, b, norm, FN(real)(eps), by_column, gates, height, brief, H, C, width);
        FN(expand_strips)(by_row, of_rows, b_rows, gates, brief, H, C, height);
        FN(expand_strips)(by_column, of_columns, b_columns, gates + C * height, brief, H, C, width);
        FN(strip_scale)(x + n * C * P, gates, gates + C * height, 0, 0, y + n * C * P, C, height, width, 1, past, inner);
    })
}

// W₂ ReLU(LayerNorm(W₁ v + b₁)) + b₂; layers: W₁, b₁, weight and bias of the norm, W₂, b₂.
static void FN(transform)(const A *const *layers, const A *v, A *hidden, A *out, double eps, int64_t H, int64_t C) {
    FN(dense)(layers[0], layers[1], v, hidden, H, C);
    double mean = 0, squares = 0;
    for (int64_t k = 0; k < H; k++) mean += hidden[k];
    mean /= (double)H;
    for (int64_t k = 0; k < H; k++) squares += (hidden[k] - mean) * (hidden[k] - mean);
    double scale = 1 / sqrt(squares / (double)H + eps);
    for (int64_t k = 0; k < H; k++) hidden[k] = (A)((hidden[k] - mean) * scale) * (layers[2] ? layers[2][k] : 1) + (layers[3] ? layers[3][k] : 0);
    FN(relu)(hidden, H);
    FN(dense)(layers[4], layers[5], hidden, out, C, H);
}

// One context from a softmax over the positions, through up to two transforms: global context.
// mul, add: the transforms that multiply and add, or null. Scratch of (S + 3) · C + 2 · S + H + P values a thread.
void FN(global_context)(const T *x, const A *w, const A *b, const A *const *mul, const A *const *add, T *y, A *scratch,
                        int64_t eps, int64_t S, int64_t at_once, int64_t H, int64_t N, int64_t C, int64_t P,
                        int64_t last, int64_t past, int64_t threads) {
    BY_SAMPLE(n, {
        A *sums = scratch + omp_get_thread_num() * ((S + 3) * C + 2 * S + H + P), *context = sums + S * C;
        A *g = context + C, *added = g + C, *largest = added + C, *weight = largest + S, *hidden = weight + S;
        A *logits = hidden + H, most = -INFINITY, whole = 0;
        const T *from = x + n * C * P;
        if (last) FN(attend_columns)(from, w, b, logits, largest, weight, sums, S, at_once, 1, P, C, inner);
        else FN(attend_rows)(from, w, b, logits, largest, weight, sums, S, at_once, 1, C, P, inner);
        for (int64_t s = 0; s < S; s++) most = largest[s] > most || largest[s] != largest[s] ? largest[s] : most;
        memset(context, 0, (size_t)C * sizeof(A));
        for (int64_t s = 0; s < S; s++) {
            A factor = EXP(largest[s] - most);
            whole += weight[s] * factor;
            FN(add_times)(context, sums + s * C, factor, C);
        }
        for (int64_t c = 0; c < C; c++) context[c] /= whole;
        if (mul) {
            FN(transform)(mul, context, hidden, g, FN(real)(eps), H, C);
            FN(sigmoid)(g, C);
        }
        if (add) FN(transform)(add, context, hidden, added, FN(real)(eps), H, C);
        FN(gate)(from, mul ? g : 0, 0, add ? added : 0, y + n * C * P, C, P, last, past, inner);
    })
}
#endif
