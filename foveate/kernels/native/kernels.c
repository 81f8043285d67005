// The passes over maps, for each way of storing them: float, double and bfloat16 (computed as float).
#include "memory.h"
#define GLUE(a, b) a##_##b
#define NAME(a, b) GLUE(a, b)
#define FN(name) NAME(name, SUFFIX)

#define T float
#define A float
#define SUFFIX f32
#define FABS fabsf
#include "passes.h"
#include "gates.h"
#undef T
#undef SUFFIX

#define T bf16
#define SUFFIX bf16
#include "passes.h"
#include "gates.h"
#undef T
#undef A
#undef SUFFIX
#undef FABS

#define T double
#define A double
#define SUFFIX f64
#define FABS fabs
#include "passes.h"
#include "gates.h"
