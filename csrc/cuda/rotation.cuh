// The rotation of rope and of kv_append, of pairs of elements of a head: i and i + P/2.
#pragma once

#include "cuda/kernel.cuh"

namespace nemotron_h::cuda {

// Of one position, by a block of kThreads: cosines and sines are computed once, in f64 as on the CPU, and serve all
// heads. They are there after a barrier.
template <int kThreads>
__device__ void compute_turns(const float* inv_freq, int pairs, int64_t position, float* cosine, float* sine) {
  for (int j = threadIdx.x; j < pairs; j += kThreads) {
    double sin, cos;
    sincos(static_cast<double>(position) * inv_freq[j], &sin, &cos);
    cosine[j] = static_cast<float>(cos), sine[j] = static_cast<float>(sin);
  }
}

// The first and second elements of kN pairs, of which `cosine` and `sine` begin with the first's.
template <int kN>
__device__ void rotate(const float* cosine, const float* sine, float (&first)[kN], float (&second)[kN]) {
  const auto c = *reinterpret_cast<const Pack<float, kN>*>(cosine);
  const auto s = *reinterpret_cast<const Pack<float, kN>*>(sine);
#pragma unroll
  for (int j = 0; j < kN; ++j) {
    const float a = first[j], b = second[j];
    first[j] = fmaf(a, c.v[j], -(b * s.v[j]));
    second[j] = fmaf(b, c.v[j], a * s.v[j]);
  }
}

}  // namespace nemotron_h::cuda
