// Soft thresholds: y = sign(x) · max(|x| − t, 0), a threshold for each row or for each column.

void FN(shrink)(const T *x, const A *row, const A *column, T *y, int64_t N, int64_t I, int64_t J, int64_t past,
                int64_t threads) {
    PARALLEL {
        A in[CHUNK], out[CHUNK];
        LAST_FIRST(r, N * I) {
            for (int64_t j = 0; j < J; j += PIECE) {
                int64_t n = MIN(PIECE, J - j);
                const A *v = FN(load)(x + r * J + j, n, in), *c = column ? column + r / I * J + j : 0;
                A *w = FN(target)(y + r * J + j, out, (int)past), t = row ? row[r] : 0;
                SIMD for (int64_t k = 0; k < n; k++) {
                    A limit = c ? c[k] : t, over = FABS(v[k]) - limit;
                    over = over <= 0 ? 0 : over;  // NaN propagates
                    w[k] = v[k] > 0 ? over : v[k] < 0 ? -over : v[k] == 0 ? v[k] * over : v[k];
                }
                FN(finish)(y + r * J + j, w, n, (int)past);
            }
        }
        streamed();
    }
}

// The gradient of a row's threshold: −Σ sign(x) · dy where |x| is above it. For columns, in S parts [N][S][J]. NaN in
// x propagates.
void FN(shrink_sums)(const T *x, const T *dy, const A *row, const A *column, A *row_sum, A *column_sum, int64_t S,
                     int64_t N, int64_t I, int64_t J, int64_t threads) {
    PARALLEL {
        A in[CHUNK], given[CHUNK], part[CHUNK];
        for (int64_t task = LO(N * S), end = HI(N * S); task < end; task++) {
            int64_t n_ = task / S, from = task % S * I / S, to = (task % S + 1) * I / S;
            for (int64_t i = from; row_sum && i < to; i++) row_sum[n_ * I + i] = 0;
            for (int64_t j = 0; j < J; j += CHUNK) {
                int64_t n = MIN(CHUNK, J - j);
                A *whole = column_sum ? column_sum + task * J + j : 0;
                for (int64_t k = 0; whole && k < n; k++) whole[k] = 0;
                for (int64_t top = from; top < to; top += 32) {
                    memset(part, 0, sizeof part);
                    for (int64_t r = n_ * I + top, last = n_ * I + MIN(top + 32, to); r < last; r++) {
                        const A *v = FN(load)(x + r * J + j, n, in), *d = FN(load)(dy + r * J + j, n, given);
                        const A *c = column ? column + n_ * J + j : 0;
                        A t = row ? row[r] : 0, sum = 0;
                        _Pragma("omp simd reduction(+ : sum)") for (int64_t k = 0; k < n; k++) {
                            A limit = c ? c[k] : t;
                            A s = FABS(v[k]) <= limit ? 0 : v[k] > 0 ? -d[k] : v[k] < 0 ? d[k] : v[k];
                            sum += s;
                            part[k] += s;
                        }
                        if (row_sum) row_sum[r] += sum;
                    }
                    for (int64_t k = 0; whole && k < n; k++) whole[k] += part[k];
                }
            }
        }
    }
}

// dx = dy where |x| is above the threshold, + sign(x) · size of the row or column.
void FN(shrink_gradient)(const T *x, const T *dy, const A *row, const A *column, const A *row_sign,
                         const A *column_sign, T *dx, int64_t N, int64_t I, int64_t J, int64_t past, int64_t threads) {
    PARALLEL {
        A in[CHUNK], given[CHUNK], out[CHUNK];
        LAST_FIRST(r, N * I) {
            for (int64_t j = 0; j < J; j += PIECE) {
                int64_t n = MIN(PIECE, J - j), at = r / I * J + j;
                const A *v = FN(load)(x + r * J + j, n, in), *d = FN(load)(dy + r * J + j, n, given);
                const A *c = column ? column + at : 0, *cs = column_sign ? column_sign + at : 0;
                A *w = FN(target)(dx + r * J + j, out, (int)past), t = row ? row[r] : 0, s = row_sign ? row_sign[r] : 0;
                SIMD for (int64_t k = 0; k < n; k++) {
                    A limit = c ? c[k] : t, size = cs ? cs[k] : s;
                    w[k] = (FABS(v[k]) <= limit ? 0 : d[k]) + (v[k] > 0 ? size : v[k] < 0 ? -size : v[k] * size);
                }
                FN(finish)(dx + r * J + j, w, n, (int)past);
            }
        }
        streamed();
    }
}
