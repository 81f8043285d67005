// The passes over maps for one storage type: -DSTORED=f32, bf16 (computed as float) or f64.
// Every argument is a pointer, null for an optional part, or an int64_t. _calls.py declares the signatures.
#include "memory.h"
#define GLUE(a, b) a##_##b
#define NAME(a, b) GLUE(a, b)
#define FN(name) NAME(name, STORED)

#define IS_f32 1
#define IS_bf16 2
#define IS_f64 3
#define WHICH NAME(IS, STORED)

#if WHICH == IS_f64
#define T double
#define A double
#define BITS int64_t
#define FABS fabs
#define EXP exp_f64
#else
#if WHICH == IS_bf16
#define T bf16
#else
#define T float
#endif
#define A float
#define BITS int32_t
#define FABS fabsf
#define EXP exp_f32
#endif

#include "passes.h"
#include "gates.h"
#include "join.h"
#include "branches.h"
#include "channels.h"
#include "attend.h"
#include "groups.h"
#include "strips.h"
#include "convolve.h"
#include "shrink.h"
#include "whole.h"
