// M maps of one shape, x[m][N][I][J], given as an array of addresses, mixed into one: factors for their channels.
// Channels first, `row` is [M][N][I]; channels last, `column` is [M][N][J]; the other is null.

// Two maps of a piece, or one if v2 is null, added to w unless they are the first.
static inline __attribute__((always_inline)) void FN(mixed)(const A *v, const A *v2, A f, A f2, const A *c, const A *c2,
                                                            A *w, int64_t n, int first) {
    SIMD for (int64_t k = 0; k < n; k++) {
        A t = v[k] * (c ? c[k] : f);
        if (v2) t += v2[k] * (c ? c2[k] : f2);
        w[k] = first ? t : w[k] + t;
    }
}

// The sums over all maps: of rows, [N][I], or of columns, [N][J].
void FN(branch_sums)(const int64_t *x, A *row_sum, A *column_sum, int64_t M, int64_t N, int64_t I, int64_t J,
                     int64_t threads) {
    int64_t strips = (J + STRIP - 1) / STRIP;
    PARALLEL {
        A buffer[CHUNK], part[STRIP];
        for (int64_t r = LO(N * I), end = HI(N * I); row_sum && r < end; r++) {
            double whole = 0;
            for (int64_t m = 0; m < M; m++)
                for (int64_t j = 0; j < J; j += CHUNK) {
                    int64_t n = MIN(CHUNK, J - j);
                    whole += FN(total)(FN(load)((const T *)x[m] + r * J + j, n, buffer), n);
                }
            row_sum[r] = (A)whole;
        }
        for (int64_t task = LO(N * strips), end = HI(N * strips); column_sum && task < end; task++) {
            int64_t n_ = task / strips, j = task % strips * STRIP, n = MIN(STRIP, J - j);
            A *sum = column_sum + n_ * J + j;
            for (int64_t k = 0; k < n; k++) sum[k] = 0;
            for (int64_t m = 0; m < M; m++)
                for (int64_t top = 0; top < I; top += 32) {  // sums of sums keep their last bits
                    for (int64_t k = 0; k < n; k++) part[k] = 0;
                    for (int64_t i = top; i < MIN(top + 32, I); i++) {
                        const A *v = FN(load)((const T *)x[m] + (n_ * I + i) * J + j, n, buffer);
                        SIMD for (int64_t k = 0; k < n; k++) part[k] += v[k];
                    }
                    for (int64_t k = 0; k < n; k++) sum[k] += part[k];
                }
        }
    }
}

// y = Σ_m x_m · factor_m.
void FN(mix_branches)(const int64_t *x, const A *row, const A *column, T *y, int64_t M, int64_t N, int64_t I, int64_t J,
                      int64_t past, int64_t threads) {
    PARALLEL {
        A in[CHUNK], in2[CHUNK], out[CHUNK];
        LAST_FIRST(r, N * I) {
            for (int64_t j = 0; j < J; j += CHUNK) {
                int64_t n = MIN(CHUNK, J - j), at = r / I * J + j;
                A *w = FN(target)(y + r * J + j, out, (int)past);
                for (int64_t m = 0; m < M; m += 2) {
                    const A *v = FN(load)((const T *)x[m] + r * J + j, n, in);
                    const A *v2 = m + 1 < M ? FN(load)((const T *)x[m + 1] + r * J + j, n, in2) : 0;
                    const A *c = column ? column + m * N * J + at : 0, *c2 = v2 && c ? c + N * J : 0;
                    A f = row ? row[m * N * I + r] : 0, f2 = v2 && row ? row[(m + 1) * N * I + r] : 0;
                    if (v2 && c) FN(mixed)(v, v2, 0, 0, c, c2, w, n, m == 0);
                    else if (v2) FN(mixed)(v, v2, f, f2, 0, 0, w, n, m == 0);
                    else FN(mixed)(v, 0, f, 0, c, 0, w, n, m == 0);
                }
                FN(finish)(y + r * J + j, w, n, (int)past);
            }
        }
        streamed();
    }
}

// The gradients of the factors, Σ x_m · dy: of rows [M][N][I], of columns in S parts, [M][N][S][J], to be added up.
void FN(branch_products)(const int64_t *x, const T *dy, A *row_sum, A *column_sum, int64_t S, int64_t M, int64_t N,
                         int64_t I, int64_t J, int64_t threads) {
    PARALLEL {
        A in[CHUNK], given[CHUNK], part[CHUNK];
        for (int64_t r = LO(N * I), end = HI(N * I); row_sum && r < end; r++)
            for (int64_t m = 0; m < M; m++) {  // the row of dy stays in the cache
                double whole = 0;
                for (int64_t j = 0; j < J; j += CHUNK) {
                    int64_t n = MIN(CHUNK, J - j);
                    const A *v = FN(load)((const T *)x[m] + r * J + j, n, in);
                    whole += FN(dot)(v, FN(load)(dy + r * J + j, n, given), n);
                }
                row_sum[m * N * I + r] = (A)whole;
            }
        for (int64_t task = LO(N * S), end = HI(N * S); column_sum && task < end; task++) {
            int64_t n_ = task / S, from = task % S * I / S, to = (task % S + 1) * I / S;
            for (int64_t top = from; top < to; top += 16)  // sums of sums keep their last bits
                for (int64_t m = 0; m < M; m++)
                    for (int64_t j = 0; j < J; j += CHUNK) {
                        int64_t n = MIN(CHUNK, J - j);
                        A *sum = column_sum + (m * N * S + task) * J + j;
                        for (int64_t k = 0; k < n; k++) part[k] = 0;
                        for (int64_t r = n_ * I + top, last = n_ * I + MIN(top + 16, to); r < last; r++) {
                            const A *v = FN(load)((const T *)x[m] + r * J + j, n, in);
                            const A *d = FN(load)(dy + r * J + j, n, given);
                            SIMD for (int64_t k = 0; k < n; k++) part[k] += v[k] * d[k];
                        }
                        for (int64_t k = 0; k < n; k++) sum[k] = (top == from ? 0 : sum[k]) + part[k];
                    }
        }
    }
}

// The gradients of the maps: dx_m = dy · factor_m + a value for each channel, row_added [N][I] or column_added [N][J].
void FN(branch_gradients)(const T *dy, const A *row, const A *column, const A *row_added, const A *column_added,
                          const int64_t *dx, int64_t M, int64_t N, int64_t I, int64_t J, int64_t past,
                          int64_t threads) {
    PARALLEL {
        A given[CHUNK], out[CHUNK];
        LAST_FIRST(r, N * I) {
            A b = row_added ? row_added[r] : 0;
            for (int64_t j = 0; j < J; j += CHUNK) {
                int64_t n = MIN(CHUNK, J - j), at = r / I * J + j;
                const A *d = FN(load)(dy + r * J + j, n, given), *added = column_added ? column_added + at : 0;
                for (int64_t m = 0; m < M; m++) {
                    T *to = (T *)dx[m] + r * J + j;
                    A *w = FN(target)(to, out, (int)past), f = row ? row[m * N * I + r] : 0;
                    const A *c = column ? column + m * N * J + at : 0;
                    if (c && added) SIMD for (int64_t k = 0; k < n; k++) w[k] = d[k] * c[k] + added[k];
                    else if (c) SIMD for (int64_t k = 0; k < n; k++) w[k] = d[k] * c[k];
                    else SIMD for (int64_t k = 0; k < n; k++) w[k] = d[k] * f + b;
                    FN(finish)(to, w, n, (int)past);
                }
            }
        }
        streamed();
    }
}
