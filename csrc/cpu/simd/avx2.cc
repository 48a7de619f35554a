// AVX2 with FMA and F16C. All but the table is internal to this file, as in avx512.cc.
#include "simd.h"

#ifdef __x86_64__
#include <immintrin.h>

namespace nemotron_h::cpu {
namespace {

constexpr int kLanes = 8;
constexpr int kRows = 3, kCols = 4;  // of a GEMM tile: 12 sums, 3 of x and 1 of w in 16 registers

#include "vector.inc"

inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec half_to_float(Halves h) { return _mm256_cvtph_ps((__m128i)h); }
inline Halves float_to_half(Vec v) { return (Halves)_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
inline Bits zero_extend(Halves h) { return (Bits)_mm256_cvtepu16_epi32((__m128i)h); }
inline Halves sign_extend(Bytes b) { return (Halves)_mm_cvtepi8_epi16(_mm_cvtsi64_si128((long long)b)); }

#include "convert.inc"
#include "loops.inc"
#include "gemm.inc"

}  // namespace

constinit const Simd kAvx2 = table("avx2");

}  // namespace nemotron_h::cpu
#endif
