// The step of the Mamba-2 recurrence, which the scan and the single step share.
#pragma once

#include "cuda/launch.cuh"

namespace nemotron_h::cuda {

// d = clamp(softplus(dt + bias), low, high). Above 20 softplus is taken to be its argument, as where the model was
// trained; they differ by 2e-9. Not fminf and fmaxf: NaN stays.
__device__ inline float step_size(float dt, float bias, float low, float high) {
  const float v = dt + bias, softplus = v > 20 ? v : log1pf(expf(v));
  const float raised = softplus < low ? low : softplus;
  return raised > high ? high : raised;
}

}  // namespace nemotron_h::cuda
