// The softmax of a row in parts (Milakov and Gimelshein 2018), in base 2: a part is the largest score, the sum of the
// weights 2^(score - largest), and the sum of values times weights.
#pragma once

#include "cuda/kernel.cuh"

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

// The same in the four lanes that share a row.
template <class Op>
__device__ float quad_reduce(float v, Op op) {
  v = op(v, __shfl_xor_sync(kAllLanes, v, 1));
  return op(v, __shfl_xor_sync(kAllLanes, v, 2));
}

// The parts of two rows of a thread, in the layout of mma's accumulators.
template <int kColumns>
struct Accumulator {
  float largest[2], total[2], values[kColumns / 8][4];

  __device__ void clear() {
    largest[0] = largest[1] = -INFINITY, total[0] = total[1] = 0;
#pragma unroll
    for (auto& v : values) v[0] = v[1] = v[2] = v[3] = 0;
  }

  __device__ void take(const Accumulator& other) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (other.largest[r] == -INFINITY) continue;  // it saw no key
      const Merge by = merge(largest[r], total[r], other.largest[r], other.total[r]);
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
        values[n][2 * r] = by(values[n][2 * r], other.values[n][2 * r]);
        values[n][2 * r + 1] = by(values[n][2 * r + 1], other.values[n][2 * r + 1]);
      }
    }
  }
};

// Products of queries with a block of keys, in the same layout, become weights, and a part takes these. sees: how many of
// the keys each row sees, the first row no more than the second.
template <int kBlocks, int kColumns>
__device__ void weigh(float (&s)[kBlocks][4], float scale, const int (&sees)[2], Accumulator<kColumns>& part) {
  constexpr int kKeys = 8 * kBlocks;
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) s[n][i] = __fmul_rn(s[n][i], scale);  // and no part of a sum: kernels would differ
  if (sees[0] < kKeys) {
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (8 * n + lane % 4 * 2 + i % 2 >= sees[i / 2]) s[n][i] = -INFINITY;
  }
  float larger[2] = {part.largest[0], part.largest[1]};
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) larger[i / 2] = fmaxf(larger[i / 2], s[n][i]);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    larger[r] = quad_reduce(larger[r], Max{});
    const float base = larger[r] == -INFINITY ? 0 : larger[r];  // of a row that has seen no key: all weights are 0
    const float kept = ex2_approx_ftz(part.largest[r] - base);
    part.largest[r] = larger[r];
    float total = 0;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 2 * r; i < 2 * r + 2; ++i) {
        s[n][i] = ex2_approx_ftz(s[n][i] - base);
        total += s[n][i];
      }
    part.total[r] = fmaf(part.total[r], kept, total);
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) part.values[n][2 * r] *= kept, part.values[n][2 * r + 1] *= kept;
  }
}

// Weights of 16 keys as they are multiplied with values.
template <int kBlocks>
__device__ void weights_operand(const float (&s)[kBlocks][4], int k, uint32_t (&a)[4]) {
  a[0] = bf16_pair(s[2 * k][0], s[2 * k][1]), a[1] = bf16_pair(s[2 * k][2], s[2 * k][3]);
  a[2] = bf16_pair(s[2 * k + 1][0], s[2 * k + 1][1]), a[3] = bf16_pair(s[2 * k + 1][2], s[2 * k + 1][3]);
}

// The logarithm of the sum of exponentials of scores.
__device__ inline float log_sum(float largest, float total) { return (largest + log2f(total)) * 0.693147181f; }

}  // namespace nemotron_h::cuda::paged_attention
