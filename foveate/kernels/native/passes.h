// Passes over maps x[N][I][J], compiled for each storage type. T: storage type, A: type of the computation.
// Channels first, a row is a channel and a column a position; channels last, a row is a position and a column a channel.
// Factors and sums are [N][I] for rows and [N][J] for columns. Parts with a null pointer are skipped.

// In four sums of many lanes, since each addition waits for the one before it; the values are read in their order.
typedef A FN(Lanes) __attribute__((vector_size(32), aligned(sizeof(A)), may_alias));
typedef BITS FN(Bits) __attribute__((vector_size(32)));
#define LANES (int64_t)(32 / sizeof(A))

static inline A FN(across)(FN(Lanes) v) {
    for (int64_t half = LANES / 2; half; half /= 2)  // unrolled
        for (int64_t k = 0; k < half; k++) v[k] += v[k + half];
    return v[0];
}

static inline A FN(total)(const A *v, int64_t n) {
    FN(Lanes) a = {0}, b = {0}, c = {0}, d = {0};
    int64_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES) {
        const FN(Lanes) *p = (const void *)(v + j);
        a += p[0], b += p[1], c += p[2], d += p[3];
    }
    for (; j + LANES <= n; j += LANES) a += *(const FN(Lanes) *)(const void *)(v + j);
    A sum = FN(across)((a + b) + (c + d));
    for (; j < n; j++) sum += v[j];
    return sum;
}

static inline A FN(dot)(const A *v, const A *w, int64_t n) {
    FN(Lanes) a = {0}, b = {0}, c = {0}, d = {0};
    int64_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES) {
        const FN(Lanes) *p = (const void *)(v + j), *q = (const void *)(w + j);
        a += p[0] * q[0], b += p[1] * q[1], c += p[2] * q[2], d += p[3] * q[3];
    }
    for (; j + LANES <= n; j += LANES) {
        const FN(Lanes) *p = (const void *)(v + j), *q = (const void *)(w + j);
        a += *p * *q;
    }
    A sum = FN(across)((a + b) + (c + d));
    for (; j < n; j++) sum += v[j] * w[j];
    return sum;
}

// The next LANES values of a row, or zeros behind its last n; nothing is read from `end` on.
static inline FN(Lanes) FN(up_to)(const A *v, int64_t n, const A *end) {
    FN(Lanes) out = {0};
    if (n >= LANES) return *(const FN(Lanes) *)(const void *)v;
    if (v + LANES > end) {
        memcpy(&out, v, (size_t)n * sizeof(A));
        return out;
    }
    FN(Bits) number, inside;
    for (int64_t k = 0; k < LANES; k++) number[k] = k;
    inside = number < (BITS)n;
    return (FN(Lanes))((FN(Bits))*(const FN(Lanes) *)(const void *)v & inside);
}

static inline int32_t FN(first)(const A *v, A wanted, int64_t n) {
    int32_t at = INT32_MAX, nan = wanted != wanted;
    _Pragma("omp simd reduction(min : at)") for (int32_t j = 0; j < (int32_t)n; j++) {
        int32_t here = (v[j] == wanted || (nan && v[j] != v[j])) ? j : INT32_MAX;
        at = here < at ? here : at;
    }
    return at;
}

// For each row: its sum, its largest value and the first column that has it (a NaN is the largest), the sum of its
// magnitudes, the sum of the squared distances from its mean.
void FN(row_sums)(const T *x, const A *column, A *sum, A *max, int32_t *at, A *magnitude, A *spread, int64_t N,
                  int64_t I, int64_t J, int64_t threads) {
    PARALLEL {
        A buffer[CHUNK], scaled[CHUNK];
        for (int64_t r = LO(N * I), end = HI(N * I); r < end; r++) {
            const T *row = x + r * J;
            const A *c = column ? column + r / I * J : 0;
            double whole = 0, size = 0;
            A most = -INFINITY;
            int32_t where = 0;
            for (int64_t j = 0; j < J; j += CHUNK) {
                int64_t n = MIN(CHUNK, J - j);
                const A *v = FN(load)(row + j, n, buffer);
                if (c) {
                    SIMD for (int64_t k = 0; k < n; k++) scaled[k] = v[k] * c[j + k];
                    v = scaled;
                }
                if (magnitude) {
                    A part = 0;
                    _Pragma("omp simd reduction(+ : part)") for (int64_t k = 0; k < n; k++) part += FABS(v[k]);
                    size += part;
                }
                if (!max) {
                    whole += FN(total)(v, n);
                    continue;
                }
                A part = 0, peak = -INFINITY;
                _Pragma("omp simd reduction(+ : part) reduction(max : peak)") for (int64_t k = 0; k < n; k++) {
                    part += v[k];
                    peak = v[k] > peak ? v[k] : peak;
                }
                if (part != part && most == most) {  // a NaN, or infinities of both signs
                    for (int64_t k = 0; k < n; k++) peak = v[k] != v[k] ? v[k] : peak;
                }
                whole += part;
                if (most == most && !(peak <= most)) {
                    most = peak;
                    if (at) where = (int32_t)j + FN(first)(v, peak, n);
                }
            }
            if (sum) sum[r] = (A)whole;
            if (max) max[r] = most;
            if (at) at[r] = where;
            if (magnitude) magnitude[r] = (A)size;
            if (spread) {
                A mean = (A)(whole / (double)J);
                double squares = 0;
                for (int64_t j = 0; j < J; j += CHUNK) {
                    int64_t n = MIN(CHUNK, J - j);
                    const A *v = FN(load)(row + j, n, buffer);
                    A part = 0;
                    _Pragma("omp simd reduction(+ : part)") for (int64_t k = 0; k < n; k++) {
                        A d = v[k] - mean;
                        part += d * d;
                    }
                    squares += part;
                }
                spread[r] = (A)squares;
            }
        }
    }
}

// For each column: the sum, the largest value and the first row that has it, the sum of magnitudes.
void FN(column_sums)(const T *x, const A *row, A *sum, A *max, int32_t *at, A *magnitude, int64_t N, int64_t I,
                     int64_t J, int64_t threads) {
    int64_t strips = (J + STRIP - 1) / STRIP;
    PARALLEL {
        A buffers[4][CHUNK], whole[STRIP], part[STRIP], most[STRIP], size[STRIP];
        int32_t where[STRIP];
        for (int64_t task = LO(N * strips), end = HI(N * strips); task < end; task++) {
            int64_t n_ = task / strips, j = task % strips * STRIP, n = MIN(STRIP, J - j);
            const T *from = x + n_ * I * J + j;
            const A *r = row ? row + n_ * I : 0;
            for (int64_t k = 0; k < n; k++) whole[k] = part[k] = size[k] = 0, most[k] = -INFINITY, where[k] = 0;
            for (int64_t i = 0; i < I; i += 4) {
                const A *v[4];
                A g[4];
                int64_t rows = MIN(4, I - i);
                for (int64_t q = 0; q < 4; q++) {
                    int64_t near = i + MIN(q, rows - 1);
                    v[q] = FN(load)(from + near * J, n, buffers[q]);
                    g[q] = r ? r[near] : 1;
                }
                const A *a = v[0], *b = v[1], *c = v[2], *d = v[3], ga = g[0], gb = g[1], gc = g[2], gd = g[3];
                int32_t first = (int32_t)i;
                if (rows < 4 || (max && magnitude)) {
                    for (int64_t q = 0; q < rows; q++) SIMD for (int64_t k = 0; k < n; k++) {
                        A w = v[q][k] * g[q];
                        part[k] += w;
                        size[k] += FABS(w);
                        where[k] = w > most[k] ? first + (int32_t)q : where[k];
                        most[k] = w > most[k] ? w : most[k];
                    }
                } else if (max && !at) {
                    SIMD for (int64_t k = 0; k < n; k++) {
                        A wa = a[k] * ga, wb = b[k] * gb, wc = c[k] * gc, wd = d[k] * gd;
                        part[k] += (wa + wb) + (wc + wd);
                        wa = wb > wa ? wb : wa, wc = wd > wc ? wd : wc, wa = wc > wa ? wc : wa;
                        most[k] = wa > most[k] ? wa : most[k];
                    }
                } else if (max) {
                    SIMD for (int64_t k = 0; k < n; k++) {
                        A wa = a[k] * ga, wb = b[k] * gb, wc = c[k] * gc, wd = d[k] * gd, m = most[k];
                        int32_t p = where[k];
                        part[k] += (wa + wb) + (wc + wd);
                        p = wa > m ? first : p, m = wa > m ? wa : m;
                        p = wb > m ? first + 1 : p, m = wb > m ? wb : m;
                        p = wc > m ? first + 2 : p, m = wc > m ? wc : m;
                        p = wd > m ? first + 3 : p, m = wd > m ? wd : m;
                        most[k] = m, where[k] = p;
                    }
                } else if (magnitude) {
                    SIMD for (int64_t k = 0; k < n; k++) {
                        A wa = a[k] * ga, wb = b[k] * gb, wc = c[k] * gc, wd = d[k] * gd;
                        part[k] += (wa + wb) + (wc + wd);
                        size[k] += (FABS(wa) + FABS(wb)) + (FABS(wc) + FABS(wd));
                    }
                } else {
                    SIMD for (int64_t k = 0; k < n; k++)
                        part[k] += (a[k] * ga + b[k] * gb) + (c[k] * gc + d[k] * gd);
                }
                if (i % 64 == 60 || i + 4 >= I) {  // sums of sums keep their last bits
                    for (int64_t k = 0; k < n; k++) whole[k] += part[k], part[k] = 0;
                }
            }
            for (int64_t k = 0; max && k < n; k++) {  // rare: a NaN, or infinities of both signs
                for (int64_t i = 0; whole[k] != whole[k] && i < I; i++) {
                    A one[CHUNK];
                    A w = FN(load)(from + i * J + k, 1, one)[0] * (r ? r[i] : 1);
                    if (w != w) {
                        most[k] = w, where[k] = (int32_t)i;
                        break;
                    }
                }
            }
            int64_t out = n_ * J + j;
            for (int64_t k = 0; k < n; k++) {
                if (sum) sum[out + k] = whole[k];
                if (max) max[out + k] = most[k];
                if (at) at[out + k] = where[k];
                if (magnitude) magnitude[out + k] = size[k];
            }
        }
    }
}

// For each column the sum of the squared distances from its mean.
void FN(column_spread)(const T *x, const A *mean, A *spread, int64_t N, int64_t I, int64_t J, int64_t threads) {
    int64_t strips = (J + STRIP - 1) / STRIP;
    PARALLEL {
        A buffer[CHUNK], part[STRIP];
        for (int64_t task = LO(N * strips), end = HI(N * strips); task < end; task++) {
            int64_t n_ = task / strips, j = task % strips * STRIP, n = MIN(STRIP, J - j);
            const A *m = mean + n_ * J + j;
            A *whole = spread + n_ * J + j;
            for (int64_t k = 0; k < n; k++) whole[k] = part[k] = 0;
            for (int64_t i = 0; i < I; i++) {
                const A *v = FN(load)(x + (n_ * I + i) * J + j, n, buffer);
                SIMD for (int64_t k = 0; k < n; k++) part[k] += (v[k] - m[k]) * (v[k] - m[k]);
                if (i % 64 == 63 || i + 1 == I)
                    for (int64_t k = 0; k < n; k++) whole[k] += part[k], part[k] = 0;
            }
        }
    }
}
