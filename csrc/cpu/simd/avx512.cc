// AVX-512 (F, BW, VL, DQ) with FMA. All but the table is internal to this file: code compiled for this
// instruction set must never be what the linker picks for the rest of the addon.
#include "simd.h"

#ifdef __x86_64__
#include <immintrin.h>

namespace nemotron_h::cpu {
namespace {

constexpr int kLanes = 16;
constexpr int kRows = 4, kCols = 6;  // of a GEMM tile: 24 sums, 4 of x and 1 of w in 32 registers

#include "vector.inc"

inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }

// Masked with all lanes on: GCC 12 warns of the undefined values inside the plain forms.
inline Vec half_to_float(Halves h) { return _mm512_maskz_cvtph_ps(-1, (__m256i)h); }
inline Halves float_to_half(Vec v) { return (Halves)_mm512_maskz_cvtps_ph(-1, v, _MM_FROUND_TO_NEAREST_INT); }
inline Bits zero_extend(Halves h) { return (Bits)_mm512_maskz_cvtepu16_epi32(-1, (__m256i)h); }
inline Halves sign_extend(Bytes b) { return (Halves)_mm256_cvtepi8_epi16((__m128i)b); }

#include "convert.inc"
#include "loops.inc"
#include "gemm.inc"

}  // namespace

constinit const Simd kAvx512 = table("avx512");

}  // namespace nemotron_h::cpu
#endif
