// y = (x · row) · column + row_added + column_added, each factor and addend where it is not null.
void FN(scale)(const T *x, const A *row, const A *column, const A *row_added, const A *column_added, T *y, int64_t N,
               int64_t I, int64_t J, int64_t past, int64_t threads) {
    PARALLEL {
        A in[PIECE], out[PIECE];
        LAST_FIRST(r, N * I) {
            A f = row ? row[r] : 1, b = row_added ? row_added[r] : 0;
            for (int64_t j = 0; j < J; j += PIECE) {
                int64_t n = MIN(PIECE, J - j), c = r / I * J + j;
                const A *v = FN(load)(x + r * J + j, n, in);
                A *w = FN(target)(y + r * J + j, out, (int)past);
                if (column && row_added) SIMD for (int64_t k = 0; k < n; k++) w[k] = v[k] * f * column[c + k] + b;
                else if (column) SIMD for (int64_t k = 0; k < n; k++) w[k] = v[k] * f * column[c + k];
                else if (row_added) SIMD for (int64_t k = 0; k < n; k++) w[k] = v[k] * f + b;
                else SIMD for (int64_t k = 0; k < n; k++) w[k] = v[k] * f;
                if (column_added) SIMD for (int64_t k = 0; k < n; k++) w[k] += column_added[c + k];
                FN(finish)(y + r * J + j, w, n, (int)past);
            }
        }
        streamed();
    }
}

// The terms of one row in the sums below, or of two rows that share the reads of the columns, for n columns.
// sum[q] += the row's own terms, weighted by c; part[k] += the terms of all rows in column k.
static inline void FN(product)(const A *v, const A *d, const A *c, A *part, const A *f, double *sum, int64_t n) {
    A s = 0, f0 = f ? f[0] : 1;
    if (part && c) {
        _Pragma("omp simd reduction(+ : s)") for (int64_t k = 0; k < n; k++) {
            A p = v[k] * d[k];
            s += p * c[k];
            part[k] += p * f0;
        }
    } else if (part) {
        _Pragma("omp simd reduction(+ : s)") for (int64_t k = 0; k < n; k++) {
            A p = v[k] * d[k];
            s += p;
            part[k] += p * f0;
        }
    } else if (c) {
        _Pragma("omp simd reduction(+ : s)") for (int64_t k = 0; k < n; k++) s += v[k] * d[k] * c[k];
    } else {
        s = FN(dot)(v, d, n);
    }
    *sum += s;
}

static inline void FN(product_of_two)(const A *const *v, const A *const *d, const A *c, A *part, const A *f,
                                      double *sum, int64_t n) {
    const A *v0 = v[0], *v1 = v[1], *d0 = d[0], *d1 = d[1], f0 = f ? f[0] : 1, f1 = f ? f[1] : 1;
    A s = 0, t = 0;
    _Pragma("omp simd reduction(+ : s, t)") for (int64_t k = 0; k < n; k++) {
        A p = v0[k] * d0[k], q = v1[k] * d1[k];
        s += p * c[k], t += q * c[k];
        part[k] += p * f0 + q * f1;
    }
    sum[0] += s, sum[1] += t;
}

// Sums of x · dy: over each row weighted by `column`, and over each column weighted by `row`; and the sums of dy alone.
// The column sums come in S parts, [N][S][J], one for each segment of the rows, to be added up afterwards.
void FN(products)(const T *x, const T *dy, const A *row, const A *column, A *row_sum, A *column_sum, A *row_dy,
                  A *column_dy, A *scratch, int64_t S, int64_t N, int64_t I, int64_t J, int64_t threads) {
    PARALLEL {
        A in[2][CHUNK], given[2][CHUNK], *parts = scratch + omp_get_thread_num() * 2 * J, *parts_dy = parts + J;
        for (int64_t task = LO(N * S), end = HI(N * S); task < end; task++) {
            int64_t n_ = task / S, from = task % S * I / S, to = (task % S + 1) * I / S;
            A *out = column_sum ? column_sum + task * J : 0, *out_dy = column_dy ? column_dy + task * J : 0;
            for (int64_t top = from; top < to; top += TOGETHER) {  // sums of sums keep their last bits
                if (out) memset(parts, 0, (size_t)J * sizeof(A));
                if (out_dy) memset(parts_dy, 0, (size_t)J * sizeof(A));
                for (int64_t r = n_ * I + top, last = n_ * I + MIN(top + TOGETHER, to), two; r < last; r += 1 + two) {
                    two = out && column && !out_dy && !row_dy && r + 1 < last;
                    double whole[2] = {0}, whole_dy = 0;
                    for (int64_t j = 0; j < J; j += CHUNK) {
                        int64_t n = MIN(CHUNK, J - j);
                        const A *d[2] = {FN(load)(dy + r * J + j, n, given[0])}, *v[2];
                        const A *c = column ? column + n_ * J + j : 0, *f = row ? row + r : 0;
                        A *part = out ? parts + j : 0, *part_dy = parts_dy + j;
                        if (row_dy) whole_dy += FN(total)(d[0], n);
                        if (out_dy) SIMD for (int64_t k = 0; k < n; k++) part_dy[k] += d[0][k];
                        if (!row_sum && !out) continue;
                        v[0] = FN(load)(x + r * J + j, n, in[0]);
                        if (two) {
                            d[1] = FN(load)(dy + (r + 1) * J + j, n, given[1]);
                            v[1] = FN(load)(x + (r + 1) * J + j, n, in[1]);
                            FN(product_of_two)(v, d, c, part, f, whole, n);
                        } else {
                            FN(product)(v[0], d[0], c, part, f, whole, n);
                        }
                    }
                    for (int64_t q = 0; row_sum && q <= two; q++) row_sum[r + q] = (A)whole[q];
                    if (row_dy) row_dy[r] = (A)whole_dy;
                }
                for (int64_t k = 0; out && k < J; k++) out[k] = (top == from ? 0 : out[k]) + parts[k];
                for (int64_t k = 0; out_dy && k < J; k++) out_dy[k] = (top == from ? 0 : out_dy[k]) + parts_dy[k];
            }
        }
    }
}

// The gradient of a map, each part where it is not null:
//   dx = (dy · row) · column + row_added + column_added + Σ_k row_k · column_k
//      + x · (row_x + column_x) + sign(x) · (row_sign + column_sign)
//      + hot_row · hot[j] where column_at[j] is the row's number
//      + peak[i] at the column row_at[i]
typedef struct {
    const void *x, *dy;
    const A *row, *column, *row_added, *column_added, *row_1, *column_1, *row_2, *column_2;
    const A *row_x, *row_sign, *column_x, *column_sign, *hot_row, *hot, *peak;
    const int32_t *column_at, *row_at;
} FN(Parts);

static inline __attribute__((always_inline)) void FN(piece)(const FN(Parts) * p, A *w, int64_t r, int64_t c, int64_t i,
                                                            int64_t n, const A *d, int column, int one, int two,
                                                            int hot) {
    A f = d && p->row ? p->row[r] : 1, b = p->row_added ? p->row_added[r] : 0;
    A g = one ? p->row_1[r] : 0, h = two ? p->row_2[r] : 0, t = hot && p->hot_row ? p->hot_row[r] : 1;
    const A *col = column ? p->column + c : 0, *c1 = one ? p->column_1 + c : 0, *c2 = two ? p->column_2 + c : 0;
    const A *value = hot ? p->hot + c : 0;
    const int32_t *at = hot ? p->column_at + c : 0, mine = (int32_t)i;
    SIMD for (int64_t k = 0; k < n; k++) {
        A y = d ? (column ? d[k] * f * col[k] : d[k] * f) : 0;
        y += b;
        if (one) y += g * c1[k];
        if (two) y += h * c2[k];
        if (hot) y += at[k] == mine ? t * value[k] : 0;
        w[k] = y;
    }
}

// The rare parts, added to a piece.
static void FN(more)(const FN(Parts) * p, A *w, int64_t r, int64_t c, int64_t n, const A *v) {
    A e = p->row_x ? p->row_x[r] : 0, s = p->row_sign ? p->row_sign[r] : 0;
    const A *bias = p->column_added, *ce = p->column_x, *cs = p->column_sign;
    if (bias) SIMD for (int64_t k = 0; k < n; k++) w[k] += bias[c + k];
    if (ce || e != 0) SIMD for (int64_t k = 0; k < n; k++) w[k] += v[k] * (ce ? ce[c + k] : e);
    if (cs || s != 0) SIMD for (int64_t k = 0; k < n; k++) {
        A size = cs ? cs[c + k] : s;
        w[k] += v[k] > 0 ? size : v[k] < 0 ? -size : 0;
    }
}

void FN(gradient)(const FN(Parts) * p, T *dx, int64_t N, int64_t I, int64_t J, int64_t past, int64_t threads) {
    int reads_x = p->row_x || p->row_sign || p->column_x || p->column_sign;
    const int64_t few = 8;  // rows that share the reads of the columns
    int one = p->row_1 != 0, two = p->row_2 != 0, hot = p->column_at != 0, column = p->column != 0;
    PARALLEL {
        A given[PIECE], in[PIECE], out[PIECE];
        BLOCKS_LAST_FIRST(low, high, N * I)
        for (int64_t first = low; first < high; first += few)
            for (int64_t j = 0; j < J; j += PIECE)
                for (int64_t r = first; r < MIN(first + few, high); r++) {
                    int64_t i = r % I, n = MIN(PIECE, J - j), c = r / I * J + j;
                    const A *d = p->dy ? FN(load)((const T *)p->dy + r * J + j, n, given) : 0;
                    const A *v = reads_x ? FN(load)((const T *)p->x + r * J + j, n, in) : 0;
                    A *w = FN(target)(dx + r * J + j, out, (int)past);
                    if (!d) FN(piece)(p, w, r, c, i, n, 0, 0, one, two, hot);
                    else if (!column && !one && !two && !hot) FN(piece)(p, w, r, c, i, n, d, 0, 0, 0, 0);
                    else if (column && !one && !two && !hot) FN(piece)(p, w, r, c, i, n, d, 1, 0, 0, 0);
                    else if (column && one && !two && hot) FN(piece)(p, w, r, c, i, n, d, 1, 1, 0, 1);
                    else if (!column && one && two && !hot) FN(piece)(p, w, r, c, i, n, d, 0, 1, 1, 0);
                    else FN(piece)(p, w, r, c, i, n, d, column, one, two, hot);
                    if (reads_x || p->column_added) FN(more)(p, w, r, c, n, v);
                    if (p->row_at && p->row_at[r] >= j && p->row_at[r] < j + n) w[p->row_at[r] - j] += p->peak[r];
                    FN(finish)(dx + r * J + j, w, n, (int)past);
                }
        streamed();
    }
}
