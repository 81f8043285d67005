// Reading rows as float or double, and writing them past the cache where the map is larger than the cache.
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#ifdef _OPENMP
extern int omp_get_thread_num(void);
extern int omp_get_num_threads(void);
#define PARALLEL _Pragma("omp parallel num_threads((int)threads) if (threads > 1)")
#else
#define PARALLEL
#define omp_get_thread_num() 0
#define omp_get_num_threads() 1
#endif

// The tasks of this thread, of `count`: LO ≤ task < HI.
#define LO(count) ((count) * omp_get_thread_num() / omp_get_num_threads())
#define HI(count) ((count) * (omp_get_thread_num() + 1) / omp_get_num_threads())
// The rows of this thread in blocks, the last block first: the rows that an earlier pass read last are still cached.
#define BLOCK 64
#define BLOCKS_LAST_FIRST(low, high, count)                                                        \
    for (int64_t high = HI(count), from_ = LO(count), low; high > from_ &&                         \
         (low = high - BLOCK > from_ ? high - BLOCK : from_, 1); high = low)
#define LAST_FIRST(r, count)                                                                       \
    BLOCKS_LAST_FIRST(low_, high_, count) for (int64_t r = low_; r < high_; r++)
#define TOGETHER 32  // rows whose sums are computed together
#define SIMD _Pragma("omp simd")
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define CHUNK 1024  // values of a row per step
#define PIECE 128   // values written per step, so that reading overlaps with writing
#define STRIP 512   // columns per step

static inline void stream(void *to, const void *from, size_t bytes) {
#if defined(__SSE2__)
    char *out = to;
    const char *in = from;
    size_t head = MIN((64 - (uintptr_t)out % 64) % 64, bytes);
    memcpy(out, in, head);
    out += head, in += head, bytes -= head;
    for (; bytes >= 64; out += 64, in += 64, bytes -= 64) {
#if defined(__AVX512F__)
        _mm512_stream_si512((void *)out, _mm512_loadu_si512(in));
#elif defined(__AVX__)
        _mm256_stream_si256((void *)out, _mm256_loadu_si256((const void *)in));
        _mm256_stream_si256((void *)(out + 32), _mm256_loadu_si256((const void *)(in + 32)));
#else
        for (int k = 0; k < 64; k += 16)
            _mm_stream_si128((void *)(out + k), _mm_loadu_si128((const void *)(in + k)));
#endif
    }
    memcpy(out, in, bytes);
#else
    memcpy(to, from, bytes);
#endif
}

static inline void streamed(void) {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

typedef uint16_t bf16;

static inline const float *load_f32(const float *from, int64_t n, float *buffer) {
    (void)n, (void)buffer;
    return from;
}

static inline const double *load_f64(const double *from, int64_t n, double *buffer) {
    (void)n, (void)buffer;
    return from;
}

// The end of the memory that may be read at v: that of the map, or of the buffer that the row was loaded to.
static inline const float *readable_f32(const float *v, const float *end, const float *buffer) {
    return (void)v, (void)buffer, end;
}

static inline const double *readable_f64(const double *v, const double *end, const double *buffer) {
    return (void)v, (void)buffer, end;
}

static inline const float *readable_bf16(const float *v, const bf16 *end, const float *buffer) {
    return (void)v, (void)end, buffer + CHUNK;
}

static inline const float *load_bf16(const bf16 *from, int64_t n, float *buffer) {
    uint32_t bits[CHUNK];
    SIMD for (int64_t j = 0; j < n; j++) bits[j] = (uint32_t)from[j] << 16;
    memcpy(buffer, bits, (size_t)n * 4);
    return buffer;
}

// Where to compute a piece of a row: in place if the storage type is the computed one and the write is cached.
static inline float *target_f32(float *to, float *buffer, int past) { return past ? buffer : to; }
static inline double *target_f64(double *to, double *buffer, int past) { return past ? buffer : to; }
static inline float *target_bf16(bf16 *to, float *buffer, int past) { return (void)to, (void)past, buffer; }

static inline void finish_f32(float *to, const float *from, int64_t n, int past) {
    if (past) stream(to, from, (size_t)n * sizeof(float));
}

static inline void finish_f64(double *to, const double *from, int64_t n, int past) {
    if (past) stream(to, from, (size_t)n * sizeof(double));
}

static inline void finish_bf16(bf16 *to, const float *from, int64_t n, int past) {
    uint32_t bits[CHUNK];
    bf16 rounded[CHUNK];
    memcpy(bits, from, (size_t)n * 4);
    SIMD for (int64_t j = 0; j < n; j++) {
        uint32_t b = bits[j], even = (b + 0x7fffu + ((b >> 16) & 1)) >> 16;
        rounded[j] = (bf16)((b & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : even);
    }
    if (past) stream(to, rounded, (size_t)n * 2);
    else memcpy(to, rounded, (size_t)n * 2);
}

// eᵛ to two units in the last place; 0 below the normal numbers; NaN propagates.
static inline float exp_f32(float v) {
    v = v > 89.0f ? 89.0f : v;
    v = v < -104.0f ? -104.0f : v;
    float n = rintf(v * 1.44269504f), r = v - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t k = (int32_t)n;
    k = k > 128 ? 128 : k;
    k = k < -127 ? -127 : k;
    union {
        int32_t bits;
        float value;
    } power = {(k + 127) << 23};
    return p * power.value;
}

static inline double exp_f64(double v) { return exp(v); }
