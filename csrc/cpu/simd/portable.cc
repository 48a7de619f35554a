// The baseline of any processor: vectors of four, which compilers map to SSE2 or NEON.
#include "simd.h"

namespace nemotron_h::cpu {
namespace {

constexpr int kLanes = 4;
constexpr int kRows = 2, kCols = 4;  // of a GEMM tile: 8 sums, 2 of x, 1 of w and a product in 16 registers

#include "vector.inc"

inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }

inline Bits zero_extend(Halves h) { return __builtin_convertvector(h, Bits); }
inline Halves sign_extend(Bytes b) {
  typedef int8_t SignedBytes __attribute__((vector_size(kLanes)));
  typedef int16_t SignedHalves __attribute__((vector_size(2 * kLanes)));
  return (Halves)__builtin_convertvector((SignedBytes)b, SignedHalves);
}

inline Vec half_to_float(Halves h) {
  const Bits bits = zero_extend(h), magnitude = bits & 0x7fff, shifted = magnitude << 13;
  const Vec normal = (Vec)(shifted + ((127 - 15) << 23));
  const Vec subnormal = (Vec)(shifted + ((127 - 14) << 23)) - 0x1p-14f;  // as if it had the leading one
  const Vec special = (Vec)(shifted | 0x7f800000);
  const Vec value = magnitude < 0x400 ? subnormal : magnitude < 0x7c00 ? normal : special;
  return (Vec)((Bits)value | (bits & 0x8000) << 16);
}

inline Halves float_to_half(Vec v) {
  return __builtin_convertvector(narrow((Bits)v, detail::Half{}), Halves);
}

#include "convert.inc"
#include "loops.inc"
#include "gemm.inc"

}  // namespace

constinit const Simd kPortable = table("portable");

}  // namespace nemotron_h::cpu
