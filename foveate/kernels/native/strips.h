// Maps x[N·C][H][W], channels first, and a number for each row and for each column of every plane.

// The sums of each row, [N·C][H], and of each column, [N·C][W].
void FN(strip_sums)(const T *x, A *rows, A *columns, int64_t planes, int64_t H, int64_t W, int64_t threads) {
    PARALLEL {
        A buffer[CHUNK], part[CHUNK];
        for (int64_t p = LO(planes), end = HI(planes); p < end; p++) {
            A *row = rows + p * H, *column = columns + p * W;
            for (int64_t h = 0; h < H; h++) row[h] = 0;
            for (int64_t w = 0; w < W; w += CHUNK) {
                int64_t n = MIN(CHUNK, W - w);
                for (int64_t k = 0; k < n; k++) column[w + k] = 0;
                for (int64_t top = 0; top < H; top += 32) {  // sums of sums keep their last bits
                    for (int64_t k = 0; k < n; k++) part[k] = 0;
                    for (int64_t h = top; h < MIN(top + 32, H); h++) {
                        const A *v = FN(load)(x + (p * H + h) * W + w, n, buffer);
                        A sum = 0;
                        _Pragma("omp simd reduction(+ : sum)") for (int64_t k = 0; k < n; k++) {
                            sum += v[k];
                            part[k] += v[k];
                        }
                        row[h] += sum;
                    }
                    for (int64_t k = 0; k < n; k++) column[w + k] += part[k];
                }
            }
        }
    }
}

// y = (x · rows) · columns + row_added + column_added; the last two may be null.
void FN(strip_scale)(const T *x, const A *rows, const A *columns, const A *row_added, const A *column_added, T *y,
                     int64_t planes, int64_t H, int64_t W, int64_t past, int64_t threads) {
    PARALLEL {
        A in[CHUNK], out[CHUNK];
        int64_t group = MIN(H, CHUNK / MIN(W, CHUNK));  // rows written at once, lest short ones end within a cache line
        LAST_FIRST(p, planes) {
            for (int64_t h = 0; h < H; h += group)
                for (int64_t w = 0; w < W; w += CHUNK) {
                    int64_t n = MIN(CHUNK, W - w), high = MIN(group, H - h), at = (p * H + h) * W + w;
                    const A *v = FN(load)(x + at, n * high, in), *c = columns + p * W + w;
                    const A *d = column_added ? column_added + p * W + w : 0;
                    A *o = FN(target)(y + at, out, (int)past);
                    for (int64_t q = 0; q < high; q++) {
                        A f = rows[p * H + h + q], b = row_added ? row_added[p * H + h + q] : 0;
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
                        int64_t planes, int64_t H, int64_t W, int64_t threads) {
    PARALLEL {
        A in[CHUNK], given[CHUNK], part[CHUNK];
        for (int64_t p = LO(planes), end = HI(planes); p < end; p++) {
            A *d_row = d_rows + p * H, *d_column = d_columns + p * W;
            for (int64_t h = 0; h < H; h++) d_row[h] = 0;
            for (int64_t w = 0; w < W; w += CHUNK) {
                int64_t n = MIN(CHUNK, W - w);
                const A *c = columns + p * W + w;
                for (int64_t k = 0; k < n; k++) d_column[w + k] = 0;
                for (int64_t top = 0; top < H; top += 32) {
                    for (int64_t k = 0; k < n; k++) part[k] = 0;
                    for (int64_t h = top; h < MIN(top + 32, H); h++) {
                        int64_t at = (p * H + h) * W + w;
                        const A *v = FN(load)(x + at, n, in), *d = FN(load)(dy + at, n, given);
                        A sum = 0, f = rows[p * H + h];
                        _Pragma("omp simd reduction(+ : sum)") for (int64_t k = 0; k < n; k++) {
                            A t = v[k] * d[k];
                            sum += t * c[k];
                            part[k] += t * f;
                        }
                        d_row[h] += sum;
                    }
                    for (int64_t k = 0; k < n; k++) d_column[w + k] += part[k];
                }
            }
        }
    }
}
