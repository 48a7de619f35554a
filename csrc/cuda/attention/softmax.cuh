// The softmax of a row in parts (Milakov and Gimelshein 2018), in base 2: a part is the largest score, the sum of the
// weights 2^(score - largest), and the sum of values times weights.
#pragma once

#include "cuda/ptx.cuh"

namespace nemotron_h::cuda::paged_attention {

// What sums are multiplied by when two parts become one.
struct Merge {
  float kept, added;
  __device__ float operator()(float sum, float other) const { return fmaf(other, added, sum * kept); }
};

// Takes another part into the first; it must have seen a key. Products and sums are said, not left to the compiler:
// two kernels do this, and their bits must be the same.
__device__ inline Merge merge(float& largest, float& total, float other_largest, float other_total) {
  const float larger = fmaxf(largest, other_largest);
  const Merge by{ex2_approx_ftz(largest - larger), ex2_approx_ftz(other_largest - larger)};
  largest = larger;
  total = by(total, other_total);
  return by;
}

// The logarithm of the sum of exponentials of scores.
__device__ inline float log_sum(float largest, float total) { return (largest + log2f(total)) * 0.693147181f; }

}  // namespace nemotron_h::cuda::paged_attention
