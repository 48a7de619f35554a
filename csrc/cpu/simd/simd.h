// The vectorised inner loops of the CPU backend: one table of functions per instruction set.
//
// vector.inc, loops.inc and gemm.inc are compiled once for each (portable.cc, avx2.cc, avx512.cc), and
// simd() gives the best the processor has. A result depends on its own inputs, their length and the
// instruction set only: never on alignment, nor on how many rows or columns are computed beside it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dtype.h"

namespace nemotron_h::cpu {

// y[M,N] = x[M,K] w[N,K]^T, in float. Leading dimensions are in elements.
// Runs on the calling thread. To use several, give each a range of N (64 or more, all of M), which reads
// every weight once per 128 rows of x; where N is too short for that, ranges of M in multiples of 128.
struct Gemm {
  int64_t M, N, K;
  const float* x;
  int64_t ldx;
  const void* w;
  DType w_dtype;  // f32, bf16, f16, e4m3, e5m2
  int64_t ldw;
  float* y;
  int64_t ldy;
};

// An output may be an input (x == y), but not overlap it otherwise.
struct Simd {
  const char* name;  // portable, avx2, avx512
  void (*gemm)(const Gemm&);

  float (*dot)(const float* a, const float* b, int64_t n);
  float (*sum)(const float* x, int64_t n);
  float (*sum_squares)(const float* x, int64_t n);
  float (*max)(const float* x, int64_t n);                      // passes over NaN; -inf if nothing else
  float (*abs_max)(const float* x, int64_t n);                  // passes over NaN; 0 if nothing else
  void (*axpy)(float a, const float* x, float* y, int64_t n);   // y += a x
  void (*scale)(float a, const float* x, float* y, int64_t n);  // y = a x
  void (*exp)(const float* x, float* y, int64_t n);             // within 2 ulp, subnormal results too
  void (*silu)(const float* x, float* y, int64_t n);            // y = x / (1 + exp(-x)); -0 below x = -89
  void (*relu2)(const float* x, float* y, int64_t n);           // y = max(x, 0)^2; NaN stays
  // state = decay state + in B; gives state . C. One row of the Mamba-2 recurrence.
  float (*ssm_row)(float decay, float in, const float* B, const float* C, float* state, int64_t n);

  void (*load)(DType from, const void* x, float* y, int64_t n);  // any float type to f32
  void (*store)(DType to, const float* x, void* y, int64_t n);   // f32 to any, rounded as by dtype.h
};

const Simd& simd();

// Forces one by name, for every thread; false where the processor or the build lacks it.
bool use_simd(const char* name);

// What simd() chooses from; avx2 and avx512 exist in x86-64 builds only.
extern const Simd kPortable, kAvx2, kAvx512;

// While it lives, subnormal numbers of this thread are 0, on x86. Decays pass through them on their way to 0, and such a
// processor takes a hundred cycles for a product with one.
class FlushSubnormals {
 public:
  FlushSubnormals();
  ~FlushSubnormals();
  FlushSubnormals(const FlushSubnormals&) = delete;

 private:
  unsigned before_ = 0;
};

// This thread's scratch memory: that many floats or more, aligned to 64 bytes, alive as long as the thread.
float* gemm_scratch(size_t floats);

}  // namespace nemotron_h::cpu
