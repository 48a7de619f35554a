// The scales of fp8 with current scaling, as Transformer Engine computes them (Float8CurrentScaling, amax_epsilon 0,
// scales not confined to powers of two): the largest magnitude becomes the format's largest value.
#pragma once

#include <cfloat>
#include <cmath>

#include "cuda/kernel.cuh"

namespace nemotron_h::cuda {

template <class To>
constexpr float kLargest = 0;
template <>
inline constexpr float kLargest<e4m3> = 448;
template <>
inline constexpr float kLargest<e5m2> = 57344;

// compute_scale_from_amax of Transformer Engine's common/recipe/recipe_common.cuh.
template <class To>
__device__ float scale_from_amax(float amax) {
  if (!(amax > 0) || amax == INFINITY) return 1;
  return fminf(kLargest<To> / amax, FLT_MAX);
}

}  // namespace nemotron_h::cuda
