// Gates that depend on one channel or one group of channels alone: each group is read from memory once.
// Channels first only. The caller provides the scratch memory of each thread.

#define SIGMOID(z) (1 / (1 + EXP(-(z))))

static inline A FN(mean_of)(const T *row, int64_t J, A *buffer) {
    double whole = 0;
    for (int64_t j = 0; j < J; j += CHUNK) {
        int64_t n = MIN(CHUNK, J - j);
        whole += FN(total)(FN(load)(row + j, n, buffer), n);
    }
    return (A)(whole / (double)J);
}

// Of each group of 2·K channels the first K are gated by σ(scale · mean + shift), the others position by position by
// σ(scale · normed + shift); scale and shift are [2·K]. Then channel q moves to 2·(q mod C/2) + q div C/2. Also
// written: the mean of every channel and 1/√(variance + ε) of those that are normalised.
void FN(sa_gate)(const T *x, const A *scale, const A *shift, T *y, A *mean, A *inverse, int64_t K, int64_t N,
                      int64_t C, int64_t J, int64_t past, int64_t threads) {
    PARALLEL {
        A in[CHUNK], out[CHUNK];
        for (int64_t r = LO(N * C), end = HI(N * C); r < end; r++) {
            int64_t q = r % C, k_ = q % (2 * K), half = C / 2, to = r - q + 2 * (q % half) + q / half;
            const T *row = x + r * J;
            A m = FN(mean_of)(row, J, in), s = scale[k_], b = shift[k_], whole = SIGMOID(s * m + b);
            mean[r] = m, inverse[r] = 0;
            if (k_ >= K) {
                double squares = 0;
                for (int64_t j = 0; j < J; j += CHUNK) {
                    int64_t n = MIN(CHUNK, J - j);
                    const A *v = FN(load)(row + j, n, in);
                    A part = 0;
                    _Pragma("omp simd reduction(+ : part)") for (int64_t k = 0; k < n; k++)
                        part += (v[k] - m) * (v[k] - m);
                    squares += part;
                }
                inverse[r] = (A)(1 / sqrt(squares / (double)J + 1e-5));
            }
            A slope = s * inverse[r];
            for (int64_t j = 0; j < J; j += PIECE) {
                int64_t n = MIN(PIECE, J - j);
                const A *v = FN(load)(row + j, n, in);
                A *w = FN(target)(y + to * J + j, out, (int)past);
                if (k_ < K) SIMD for (int64_t k = 0; k < n; k++) w[k] = v[k] * whole;
                else SIMD for (int64_t k = 0; k < n; k++) w[k] = v[k] * SIGMOID((v[k] - m) * slope + b);
                FN(finish)(y + to * J + j, w, n, (int)past);
            }
        }
        streamed();
    }
}

// Backward. For each channel: the sum over positions of the gradient of its logits, and of that times the normed map (the
// mean for those gated as a whole). Scratch of 2·J values a thread.
void FN(sa_gate_back)(const T *x, const T *dy, const A *scale, const A *shift, const A *mean, const A *inverse,
                           T *dx, A *d_shift, A *d_scale, A *scratch, int64_t K, int64_t N, int64_t C, int64_t J,
                           int64_t past, int64_t threads) {
    PARALLEL {
        A in[CHUNK], given[CHUNK], out[CHUNK], *gate = scratch + omp_get_thread_num() * 2 * J, *dz = gate + J;
        for (int64_t r = LO(N * C), end = HI(N * C); r < end; r++) {
            int64_t q = r % C, k_ = q % (2 * K), half = C / 2, from = r - q + 2 * (q % half) + q / half;
            A m = mean[r], s = scale[k_], b = shift[k_], whole = SIGMOID(s * m + b), inv = inverse[r], slope = s * inv;
            double sum = 0, by_normed = 0;
            for (int64_t j = 0; j < J; j += CHUNK) {
                int64_t n = MIN(CHUNK, J - j);
                const A *v = FN(load)(x + r * J + j, n, in), *d = FN(load)(dy + from * J + j, n, given);
                A part = 0, normed = 0;
                if (k_ < K) {
                    _Pragma("omp simd reduction(+ : part)") for (int64_t k = 0; k < n; k++) part += v[k] * d[k];
                } else {
                    _Pragma("omp simd reduction(+ : part, normed)") for (int64_t k = 0; k < n; k++) {
                        A c = v[k] - m, g = SIGMOID(c * slope + b), t = v[k] * d[k] * g * (1 - g);
                        gate[j + k] = g, dz[j + k] = t;
                        part += t;
                        normed += t * (c * inv);
                    }
                }
                sum += part, by_normed += normed;
            }
            if (k_ < K) sum *= whole * (1 - whole), by_normed = sum * m;
            d_shift[r] = (A)sum, d_scale[r] = (A)by_normed;
            A even = (A)(sum / (double)J), along = (A)(by_normed / (double)J);
            for (int64_t j = 0; j < J; j += PIECE) {
                int64_t n = MIN(PIECE, J - j);
                const A *v = FN(load)(x + r * J + j, n, in), *d = FN(load)(dy + from * J + j, n, given);
                A *w = FN(target)(dx + r * J + j, out, (int)past);
                if (k_ < K) SIMD for (int64_t k = 0; k < n; k++) w[k] = d[k] * whole + s * even;
                else SIMD for (int64_t k = 0; k < n; k++)
                    w[k] = d[k] * gate[j + k] + slope * (dz[j + k] - even - (v[k] - m) * inv * along);
                FN(finish)(dx + r * J + j, w, n, (int)past);
            }
        }
        streamed();
    }
}

// The similarity of a group to its means, for the columns j … j + n: t = Σ_c mean_c · x_c.
static inline void FN(similarity)(const T *x, const A *mean, int64_t K, int64_t J, int64_t j, int64_t n, A *t, A *buffer) {
    for (int64_t k = 0; k < n; k++) t[k] = 0;
    for (int64_t c = 0; c < K; c++) {
        const A *v = FN(load)(x + c * J + j, n, buffer);
        A m = mean[c];
        SIMD for (int64_t k = 0; k < n; k++) t[k] += v[k] * m;
    }
}

// Each of G groups of K channels is gated by σ(w · (t − mean t) / (deviation t + ε) + b), t the similarity of the
// map to the group's means; the deviation divides by `count`. Also written: means of the channels, mean and deviation of t.
void FN(sge_gate)(const T *x, const A *w_, const A *b_, T *y, A *mean, A *middle, A *deviation, A *scratch,
                       int64_t count, int64_t K, int64_t N, int64_t G, int64_t J, int64_t past, int64_t threads) {
    PARALLEL {
        A in[CHUNK], out[CHUNK], *t = scratch + omp_get_thread_num() * J;
        for (int64_t r = LO(N * G), end = HI(N * G); r < end; r++) {
            const T *group = x + r * K * J;
            A *m = mean + r * K;
            for (int64_t c = 0; c < K; c++) m[c] = FN(mean_of)(group + c * J, J, in);
            double whole = 0, squares = 0;
            for (int64_t j = 0; j < J; j += CHUNK) {
                int64_t n = MIN(CHUNK, J - j);
                FN(similarity)(group, m, K, J, j, n, t + j, in);
                whole += FN(total)(t + j, n);
            }
            A centre = (A)(whole / (double)J);
            for (int64_t j = 0; j < J; j += CHUNK) {
                int64_t n = MIN(CHUNK, J - j);
                A part = 0;
                _Pragma("omp simd reduction(+ : part)") for (int64_t k = j; k < j + n; k++)
                    part += (t[k] - centre) * (t[k] - centre);
                squares += part;
            }
            A spread = (A)sqrt(squares / (double)count), slope = w_[r % G] / (spread + (A)1e-5), b = b_[r % G];
            middle[r] = centre, deviation[r] = spread;
            SIMD for (int64_t j = 0; j < J; j++) t[j] = SIGMOID((t[j] - centre) * slope + b);
            for (int64_t c = 0; c < K; c++)
                for (int64_t j = 0; j < J; j += PIECE) {
                    int64_t n = MIN(PIECE, J - j), at = (r * K + c) * J + j;
                    const A *v = FN(load)(x + at, n, in);
                    A *o = FN(target)(y + at, out, (int)past);
                    SIMD for (int64_t k = 0; k < n; k++) o[k] = v[k] * t[j + k];
                    FN(finish)(y + at, o, n, (int)past);
                }
        }
        streamed();
    }
}

// Backward; d_shift and d_scale are sums over positions of the gradient of the logits, and of it times the normed t.
// Scratch of 3·J values a thread.
void FN(sge_gate_back)(const T *x, const T *dy, const A *w_, const A *b_, const A *mean, const A *middle,
                            const A *deviation, T *dx, A *d_shift, A *d_scale, A *scratch, int64_t count, int64_t K,
                            int64_t N, int64_t G, int64_t J, int64_t past, int64_t threads) {
    PARALLEL {
        A in[CHUNK], given[CHUNK], out[CHUNK], *t = scratch + omp_get_thread_num() * 3 * J, *dt = t + J, *gate = dt + J;
        for (int64_t r = LO(N * G), end = HI(N * G); r < end; r++) {
            const T *group = x + r * K * J, *back = dy + r * K * J;
            const A *m = mean + r * K, centre = middle[r], size = deviation[r] + (A)1e-5, w = w_[r % G], b = b_[r % G];
            double sum = 0, by_normed = 0;
            for (int64_t j = 0; j < J; j += CHUNK) {
                int64_t n = MIN(CHUNK, J - j);
                A *tj = t + j, *dj = dt + j, *gj = gate + j, part = 0, normed = 0;
                FN(similarity)(group, m, K, J, j, n, tj, in);
                for (int64_t k = 0; k < n; k++) dj[k] = 0;
                for (int64_t c = 0; c < K; c++) {
                    const A *v = FN(load)(group + c * J + j, n, in), *d = FN(load)(back + c * J + j, n, given);
                    SIMD for (int64_t k = 0; k < n; k++) dj[k] += v[k] * d[k];
                }
                _Pragma("omp simd reduction(+ : part, normed)") for (int64_t k = 0; k < n; k++) {
                    A c = (tj[k] - centre) / size, g = SIGMOID(c * w + b), dz = dj[k] * g * (1 - g);
                    part += dz;
                    normed += dz * c;
                    tj[k] = c, dj[k] = dz, gj[k] = g;
                }
                sum += part, by_normed += normed;
            }
            d_shift[r] = (A)sum, d_scale[r] = (A)by_normed;
            // The logits depend on t directly, through its mean, and through its deviation (no gradient where it is 0).
            A even = (A)(sum / (double)J), slope = w / size;
            A along = deviation[r] > 0 || deviation[r] != deviation[r]
                          ? (A)(by_normed / (double)count) * size / deviation[r] : 0;
            SIMD for (int64_t j = 0; j < J; j++) dt[j] = slope * (dt[j] - even - t[j] * along);
            for (int64_t c = 0; c < K; c++) {
                double d_mean = 0;
                for (int64_t j = 0; j < J; j += CHUNK) {
                    int64_t n = MIN(CHUNK, J - j);
                    const A *v = FN(load)(group + c * J + j, n, in);
                    A part = 0;
                    _Pragma("omp simd reduction(+ : part)") for (int64_t k = 0; k < n; k++) part += v[k] * dt[j + k];
                    d_mean += part;
                }
                A added = (A)(d_mean / (double)J);
                for (int64_t j = 0; j < J; j += PIECE) {
                    int64_t n = MIN(PIECE, J - j), at = (r * K + c) * J + j;
                    const A *d = FN(load)(dy + at, n, given);
                    A *o = FN(target)(dx + at, out, (int)past);
                    SIMD for (int64_t k = 0; k < n; k++) o[k] = d[k] * gate[j + k] + m[c] * dt[j + k] + added;
                    FN(finish)(dx + at, o, n, (int)past);
                }
            }
        }
        streamed();
    }
}
