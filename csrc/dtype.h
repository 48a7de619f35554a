// The element types: name, size, and exact conversion to and from float.
//
// Rounding is to the nearest, ties to even. The fp8 formats saturate: what is too large, infinity
// included, becomes the largest finite value; NaN stays NaN (cvt.rn.satfinite on the GPU).
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nemotron_h {

enum class DType : uint8_t { f32, bf16, f16, e4m3, e5m2, i32, u8 };

struct DTypeInfo {
  std::string_view name;
  size_t bytes;
};
inline constexpr std::array<DTypeInfo, 7> kDTypes = {
    {{"f32", 4}, {"bf16", 2}, {"f16", 2}, {"e4m3", 1}, {"e5m2", 1}, {"i32", 4}, {"u8", 1}}};

constexpr std::string_view name_of(DType t) { return kDTypes[static_cast<size_t>(t)].name; }
constexpr size_t size_of(DType t) { return kDTypes[static_cast<size_t>(t)].bytes; }

// Storage types: the bits, with no arithmetic of their own.
struct bf16 { uint16_t bits; };
struct f16 { uint16_t bits; };
struct e4m3 { uint8_t bits; };
struct e5m2 { uint8_t bits; };

namespace detail {

// A small IEEE-like format of kExponent and kMantissa bits. kInfinities: the top exponent encodes
// infinity and NaN as in IEEE 754; otherwise (e4m3) only all ones is NaN, and there is no infinity.
template <int kExponent, int kMantissa, bool kInfinities, bool kSaturate>
struct SmallFloat {
  static constexpr int kBias = (1 << (kExponent - 1)) - 1;
  static constexpr uint32_t kSign = 1u << (kExponent + kMantissa);
  static constexpr uint32_t kTop = ((1u << kExponent) - 1) << kMantissa;  // the exponent field, all ones
  static constexpr uint32_t kMax = kInfinities ? kTop - 1 : kTop + (1u << kMantissa) - 2;
  static constexpr uint32_t kNaN = kInfinities ? kTop | (1u << (kMantissa - 1)) : kTop + (1u << kMantissa) - 1;

  static constexpr uint32_t from_float(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t sign = bits >> 31 ? kSign : 0;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return sign | kNaN;
    if (magnitude == 0x7f800000u) return sign | (kSaturate ? kMax : kTop);

    // Drop all but kMantissa bits of the significand, or more where the result is subnormal.
    const int exponent = static_cast<int>(magnitude >> 23) - 127 + kBias;
    const int drop = 23 - kMantissa + (exponent < 1 ? 1 - exponent : 0);
    if (drop > 24) return sign;  // below half of the smallest subnormal
    const uint32_t significand = (magnitude & 0x7fffffu) | (magnitude >> 23 ? 0x800000u : 0);
    const uint32_t half = 1u << (drop - 1), kept = significand >> drop, rest = significand & (2 * half - 1);
    const uint32_t rounded = kept + (rest > half || (rest == half && (kept & 1)) ? 1 : 0);
    // A carry out of the significand lands in the exponent field, which is what it should do.
    const uint32_t result = (exponent < 1 ? 0u : static_cast<uint32_t>(exponent - 1) << kMantissa) + rounded;
    if (result > kMax) return sign | (kSaturate ? kMax : kTop);
    return sign | result;
  }

  static constexpr float to_float(uint32_t bits) {
    const uint32_t sign = bits & kSign ? 0x80000000u : 0;
    const uint32_t magnitude = bits & (kSign - 1);
    const uint32_t exponent = magnitude >> kMantissa, mantissa = magnitude & ((1u << kMantissa) - 1);
    if (kInfinities ? magnitude > kTop : magnitude == kNaN) return std::bit_cast<float>(sign | 0x7fc00000u);
    if (kInfinities && magnitude == kTop) return std::bit_cast<float>(sign | 0x7f800000u);
    if (exponent == 0) {
      constexpr float kUnit = std::bit_cast<float>(static_cast<uint32_t>(127 + 1 - kBias - kMantissa) << 23);
      const float value = static_cast<float>(mantissa) * kUnit;
      return sign ? -value : value;
    }
    return std::bit_cast<float>(sign | ((exponent + 127 - kBias) << 23) | (mantissa << (23 - kMantissa)));
  }
};

using Half = SmallFloat<5, 10, true, false>;
using E4M3 = SmallFloat<4, 3, false, true>;
using E5M2 = SmallFloat<5, 2, true, true>;

}  // namespace detail

constexpr float to_float(float v) { return v; }
constexpr float to_float(bf16 v) { return std::bit_cast<float>(static_cast<uint32_t>(v.bits) << 16); }
constexpr float to_float(f16 v) { return detail::Half::to_float(v.bits); }
constexpr float to_float(e4m3 v) { return detail::E4M3::to_float(v.bits); }
constexpr float to_float(e5m2 v) { return detail::E5M2::to_float(v.bits); }

template <class T>
constexpr T from_float(float v);
template <>
constexpr float from_float<float>(float v) { return v; }
template <>
constexpr bf16 from_float<bf16>(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
template <>
constexpr f16 from_float<f16>(float v) { return {static_cast<uint16_t>(detail::Half::from_float(v))}; }
template <>
constexpr e4m3 from_float<e4m3>(float v) { return {static_cast<uint8_t>(detail::E4M3::from_float(v))}; }
template <>
constexpr e5m2 from_float<e5m2>(float v) { return {static_cast<uint8_t>(detail::E5M2::from_float(v))}; }

}  // namespace nemotron_h
