// Maps x[N][H][W][C], and a number for each row, [N][H][C], and for each column, [N][W][C], of every plane. Channels last,
// N is the number of samples; channels first, that of planes, and C is 1.

// Channels last, the sums of `strip_sums` and, given dy, of `strip_products`. A task is a part of the channels of one
// sample; four rows are read together, so that the sums of the columns are accessed a fourth as often as x.
#define PLOT 16384

// `high` rows of one column: their own sums go on in across[high][STRIP], the column's in sum.
static inline __attribute__((always_inline)) void FN(strip_step)(const A **v, const A **d, const A **row,
                                                                 const A *column, A (*across)[STRIP], A *sum,
                                                                 int64_t n, int high, int weighted) {
    SIMD for (int64_t k = 0; k < n; k++) {
        A part = 0;
        for (int q = 0; q < high; q++) {
            A t = weighted ? v[q][k] * d[q][k] : v[q][k];
            across[q][k] += weighted ? t * column[k] : t;
            part += weighted ? t * row[q][k] : t;
        }
        sum[k] += part;
    }
}

static void FN(strip_totals)(const T *x, const T *dy, const A *rows, const A *columns, A *row_sums, A *column_sums,
                             int64_t N, int64_t H, int64_t W, int64_t C, int64_t threads) {
    int64_t tasks = N < 8 ? 8 / N : 1, width = MIN(MIN((C / tasks / 64 + 1) * 64, STRIP), C);
    int64_t parts = (C + width - 1) / width, side = PLOT / width;
    PARALLEL {
        A in[4][CHUNK], given[4][CHUNK], across[4][STRIP], down[PLOT];
        for (int64_t task = LO(N * parts), end = HI(N * parts); task < end; task++) {
            int64_t s = task / parts, c = task % parts * width, n = MIN(width, C - c);
            for (int64_t left = 0; left < W; left += side) {
                int64_t right = MIN(left + side, W), high;
                for (int64_t h = 0; h < H; h += high) {
                    high = H - h < 4 ? 1 : 4;
                    if (h % 32 == 0) memset(down, 0, (size_t)((right - left) * width) * sizeof(A));
                    memset(across, 0, sizeof across);
                    const A *v[4], *d[4], *row[4];
                    for (int64_t w = left; w < right; w++) {
                        const A *column = columns ? columns + (s * W + w) * C + c : 0;
                        A *sum = down + (w - left) * width;
                        for (int64_t q = 0; q < high; q++) {
                            int64_t at = ((s * H + h + q) * W + w) * C + c;
                            v[q] = FN(load)(x + at, n, in[q]);
                            d[q] = dy ? FN(load)(dy + at, n, given[q]) : 0;
                            row[q] = rows ? rows + (s * H + h + q) * C + c : 0;
                        }
                        if (dy && high == 4) FN(strip_step)(v, d, row, column, across, sum, n, 4, 1);
                        else if (dy) FN(strip_step)(v, d, row, column, across, sum, n, 1, 1);
                        else if (high == 4) FN(strip_step)(v, d, row, column, across, sum, n, 4, 0);
                        else FN(strip_step)(v, d, row, column, across, sum, n, 1, 0);
                    }
                    for (int64_t q = 0; q < high; q++) {
                        A *out = row_sums + (s * H + h + q) * C + c;
                        for (int64_t k = 0; k < n; k++) out[k] = (left ? out[k] : 0) + across[q][k];
                    }
                    if ((h + high) % 32 && h + high < H) continue;
                    for (int64_t w = left; w < right; w++) {  // sums of sums keep their last bits
                        A *out = column_sums + (s * W + w) * C + c, *sum = down + (w - left) * width;
                        for (int64_t k = 0; k < n; k++) out[k] = (h < 32 ? 0 : out[k]) + sum[k];
                    }
                }
            }
        }
    }
}

static void FN(strip_scale_last)(const T *x, const A *rows, const A *columns, const A *row_added,
                                 const A *column_added, T *y, int64_t N, int64_t H, int64_t W, int64_t C,
                                 int64_t past, int64_t threads) {
    int64_t width = MIN(C, CHUNK), group = CHUNK / width;  // positions written together where their channels are few
    PARALLEL {
        A in[CHUNK], out[CHUNK];
        LAST_FIRST(r, N * H) {
            for (int64_t w = 0; w < W; w += group)
                for (int64_t c = 0; c < C; c += CHUNK) {
                    int64_t n = MIN(width, C - c), wide = MIN(group, W - w), at = (r * W + w) * C + c;
                    const A *v = FN(load)(x + at, n * wide, in), *row = rows + r * C + c;
                    const A *b = row_added ? row_added + r * C + c : 0;
                    A *o = FN(target)(y + at, out, (int)past);
                    for (int64_t q = 0; q < wide; q++) {
                        int64_t here = (r / H * W + w + q) * C + c;
                        const A *from = v + q * n, *column = columns + here, *d = b ? column_added + here : 0;
                        A *to = o + q * n;
                        if (d) SIMD for (int64_t k = 0; k < n; k++) to[k] = from[k] * row[k] * column[k] + b[k] + d[k];
                        else SIMD for (int64_t k = 0; k < n; k++) to[k] = from[k] * row[k] * column[k];
                    }
                    FN(finish)(y + at, o, n * wide, (int)past);
                }
        }
        streamed();
    }
}

// The sums of each row and of each column.
void FN(strip_sums)(const T *x, A *rows, A *columns, int64_t N, int64_t H, int64_t W, int64_t C, int64_t threads) {
    if (C > 1) return FN(strip_totals)(x, 0, 0, 0, rows, columns, N, H, W, C, threads);
    PARALLEL {
        A buffer[CHUNK];
        FN(Lanes) part[CHUNK / LANES];
        for (int64_t p = LO(N), end = HI(N); p < end; p++) {
            A *row = rows + p * H, *column = columns + p * W;
            for (int64_t h = 0; h < H; h++) row[h] = 0;
            for (int64_t w = 0; w < W; w += CHUNK) {
                int64_t n = MIN(CHUNK, W - w);
                for (int64_t k = 0; k < n; k++) column[w + k] = 0;
                for (int64_t top = 0; top < H; top += 32) {  // sums of sums keep their last bits
                    for (int64_t k = 0; k * LANES < n; k++) part[k] = (FN(Lanes)){0};
                    for (int64_t h = top; h < MIN(top + 32, H); h++) {
                        const T *from = x + (p * H + h) * W + w;
                        const A *v = FN(load)(from, n, buffer), *stop = FN(readable)(v, x + N * H * W, buffer);
                        FN(Lanes) sum = {0};
                        for (int64_t k = 0; k * LANES < n; k++) {
                            FN(Lanes) t = FN(up_to)(v + k * LANES, n - k * LANES, stop);
                            sum += t, part[k] += t;
                        }
                        row[h] += FN(across)(sum);
                    }
                    for (int64_t k = 0; k < n; k++) column[w + k] += part[k / LANES][k % LANES];
                }
            }
        }
    }
}

// y = (x · rows) · columns + row_added + column_added; the last two are both null or neither.
void FN(strip_scale)(const T *x, const A *rows, const A *columns, const A *row_added, const A *column_added, T *y,
                     int64_t N, int64_t H, int64_t W, int64_t C, int64_t past, int64_t threads) {
    if (C > 1) return FN(strip_scale_last)(x, rows, columns, row_added, column_added, y, N, H, W, C, past, threads);
    PARALLEL {
        A in[CHUNK], out[CHUNK];
        int64_t group = MIN(H, CHUNK / MIN(W, CHUNK));  // rows written together, so that short rows do not end within a cache line
        LAST_FIRST(p, N) {
            for (int64_t h = 0; h < H; h += group)
                for (int64_t w = 0; w < W; w += CHUNK) {
                    int64_t n = MIN(CHUNK, W - w), high = MIN(group, H - h), at = (p * H + h) * W + w;
                    const A *v = FN(load)(x + at, n * high, in), *c = columns + p * W + w;
                    const A *d = column_added ? column_added + p * W + w : 0;
                    A *o = FN(target)(y + at, out, (int)past);
                    for (int64_t q = 0; q < high; q++) {
                        A f = rows[p * H + h + q], b = d ? row_added[p * H + h + q] : 0;
                        const A *from = v + q * n;
                        A *to = o + q * n;
                        if (d) SIMD for (int64_t k = 0; k < n; k++) to[k] = from[k] * f * c[k] + b + d[k];
                        else SIMD for (int64_t k = 0; k < n; k++) to[k] = from[k] * f * c[k];
                    }
                    FN(finish)(y + at, o, n * high, (int)past);
                }
        }
        streamed();
    }
}

// The gradients of both factors: sums over each row of x · dy · columns, over each column of x · dy · rows.
void FN(strip_products)(const T *x, const T *dy, const A *rows, const A *columns, A *d_rows, A *d_columns,
                        int64_t N, int64_t H, int64_t W, int64_t C, int64_t threads) {
    if (C > 1) return FN(strip_totals)(x, dy, rows, columns, d_rows, d_columns, N, H, W, C, threads);
    PARALLEL {
        A in[CHUNK], given[CHUNK];
        FN(Lanes) part[CHUNK / LANES];
        for (int64_t p = LO(N), end = HI(N); p < end; p++) {
            A *d_row = d_rows + p * H, *d_column = d_columns + p * W;
            for (int64_t h = 0; h < H; h++) d_row[h] = 0;
            for (int64_t w = 0; w < W; w += CHUNK) {
                int64_t n = MIN(CHUNK, W - w);
                const A *c = columns + p * W + w, *last = columns + N * W;
                for (int64_t k = 0; k < n; k++) d_column[w + k] = 0;
                for (int64_t top = 0; top < H; top += 32) {
                    for (int64_t k = 0; k * LANES < n; k++) part[k] = (FN(Lanes)){0};
                    for (int64_t h = top; h < MIN(top + 32, H); h++) {
                        int64_t at = (p * H + h) * W + w, count = N * H * W;
                        const A *v = FN(load)(x + at, n, in), *d = FN(load)(dy + at, n, given);
                        const A *v_end = FN(readable)(v, x + count, in), *d_end = FN(readable)(d, dy + count, given);
                        FN(Lanes) sum = {0};
                        A f = rows[p * H + h];
                        for (int64_t k = 0; k * LANES < n; k++) {
                            int64_t j = k * LANES, left = n - j;
                            FN(Lanes) t = FN(up_to)(v + j, left, v_end) * FN(up_to)(d + j, left, d_end);
                            sum += t * FN(up_to)(c + j, left, last), part[k] += t * f;
                        }
                        d_row[h] += FN(across)(sum);
                    }
                    for (int64_t k = 0; k < n; k++) d_column[w + k] += part[k / LANES][k % LANES];
                }
            }
        }
    }
}
