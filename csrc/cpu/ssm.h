// What the ops of Mamba-2 share.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/cpu.h"

namespace nemotron_h::cpu {

// load(), but always into `out`.
inline void read(const Tensor& t, int64_t i, int64_t first, int64_t n, float* out) {
  simd().load(t.dtype, static_cast<const std::byte*>(t.row_address(i)) + first * size_of(t.dtype), out, n);
}

// The step d = clamp(softplus(dt + bias), min, max). Above 20 softplus is taken to be its argument, as where
// the model was trained; they differ by 2e-9.
inline float step_size(float dt, float bias, float min, float max) {
  const float v = dt + bias, softplus = v > 20 ? v : std::log1p(std::exp(v));
  return std::min(std::max(softplus, min), max);
}

}  // namespace nemotron_h::cpu
