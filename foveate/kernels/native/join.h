// y = (x · row) · column + row_added + column_added + other, then optionally the ReLU; null parts are skipped.

static inline __attribute__((always_inline)) void FN(joined)(const A *v, A f, const A *column, A b, const A *added,
                                                             const A *other, A *w, int64_t n, int relu) {
    SIMD for (int64_t k = 0; k < n; k++) {
        A t = column ? v[k] * f * column[k] + b : v[k] * f + b;
        if (added) t += added[k];
        if (other) t += other[k];
        w[k] = relu && t <= 0 ? 0 : t;  // NaN propagates
    }
}

void FN(join)(const T *x, const A *row, const A *column, const A *row_added, const A *column_added, const T *other,
              T *y, int64_t relu, int64_t N, int64_t I, int64_t J, int64_t past, int64_t threads) {
    PARALLEL {
        A in[PIECE], beside[PIECE], out[PIECE];
        LAST_FIRST(r, N * I) {
            A f = row ? row[r] : 1, b = row_added ? row_added[r] : 0;
            for (int64_t j = 0; j < J; j += PIECE) {
                int64_t n = MIN(PIECE, J - j), at = r / I * J + j;
                const A *v = FN(load)(x + r * J + j, n, in), *c = column ? column + at : 0;
                const A *o = other ? FN(load)(other + r * J + j, n, beside) : 0;
                const A *d = column_added ? column_added + at : 0;
                A *w = FN(target)(y + r * J + j, out, (int)past);
                if (o && relu && !c && !d) FN(joined)(v, f, 0, b, 0, o, w, n, 1);
                else if (o && relu && !d) FN(joined)(v, f, c, b, 0, o, w, n, 1);
                else FN(joined)(v, f, c, b, d, o, w, n, (int)relu);
                FN(finish)(y + r * J + j, w, n, (int)past);
            }
        }
        streamed();
    }
}
