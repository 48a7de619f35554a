// Random numbers that are a function of a key and a counter, and what is made of them: the same on every device.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "dtype.h"

namespace nemotron_h {

struct RandomWords {
  uint32_t v[4];
};

// Philox 4x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). With 7 rounds it passes BigCrush;
// 10 are usual.
template <int kRounds>
constexpr RandomWords philox(RandomWords counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter.v[0], b = uint64_t{0xCD9E8D57} * counter.v[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter.v[1] ^ key0, static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter.v[3] ^ key1, static_cast<uint32_t>(a)};
    key0 += 0x9E3779B9, key1 += 0xBB67AE85;
  }
  return counter;
}

// What rounds a state of f16: the numbers of eight neighbours n, the eight with this index in the layer [H,P,N/8], at
// this position of a sequence.
constexpr RandomWords state_noise(int64_t seed, int32_t position, uint32_t eight) {
  return philox<7>({static_cast<uint32_t>(position), eight, 0, 0}, static_cast<uint32_t>(seed),
                   static_cast<uint32_t>(seed >> 32));
}
// 13 bits each: of the first and of the second of two neighbours.
constexpr uint32_t first_noise(uint32_t word) { return word & 0x1fff; }
constexpr uint32_t second_noise(uint32_t word) { return word >> 19; }

// v as one of its two neighbours in f16: where `noise` is uniform in 13 bits, the mean is v, or below 2^-14, where gaps
// grow, the nearest multiple of 2^-37. Saturates; NaN stays.
constexpr f16 round_randomly(float v, uint32_t noise) {
  // With 2^-112, f32's smallest exponent is f16's: these are the bits of an f16, and 13 more.
  const uint32_t magnitude = std::bit_cast<uint32_t>(v * 0x1p-112f) & 0x7fffffff, sign = std::bit_cast<uint32_t>(v) >> 31;
  const uint32_t rounded = v != v ? 0x7e00 : std::min((magnitude + noise) >> 13, 0x7bffu);
  return {static_cast<uint16_t>(sign << 15 | rounded)};
}


// ---- normal deviates (Box and Muller 1958): from each of two points in the plane, two

// A point by its distance from the origin, sqrt(-2 log share), and its angle, 2 pi turn.
struct Point {
  float share;  // in (0, 1]
  float turn;   // in [0, 1]
};
// w + 0.5 keeps the logarithm finite: a distance is at most sqrt(66 log 2) = 6.76. Rounded as f32, both are the same on
// every device; the functions of them are the device's own.
constexpr Point point(uint32_t distance, uint32_t angle) {
  return {(static_cast<float>(distance) + 0.5f) * 0x1p-32f, static_cast<float>(angle) * 0x1p-32f};
}
struct Points {
  Point v[2];
};
// Of four deviates with this index in a tensor.
constexpr Points normal_points(int64_t seed, int64_t four) {
  const RandomWords words = philox<10>({static_cast<uint32_t>(four), static_cast<uint32_t>(four >> 32), 0, 0},
                                       static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  return {point(words.v[0], words.v[1]), point(words.v[2], words.v[3])};
}

}  // namespace nemotron_h
