// From the registers of wgmma to y, with no shared memory between: the stages stay the producer's.
#pragma once

#include "cuda/gemm/output.cuh"

namespace nemotron_h::cuda::gemm::hopper {

// Of a row, lane q of four holds columns 2q and 2q+1 of every 8. Of 32 columns from `first` / 2 on, as one lane holds
// them: 8 neighbours, from column 8q on.
template <int kSums>
__device__ void gather(const float (&sums)[kSums], int first, int half, float (&to)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) to[i] = sums[first + i / 2 * 4 + half * 2 + i % 2];
  // Pairs i/2 of lane q become pairs q of lane i/2, one bit of both numbers after the other.
#pragma unroll
  for (int bit = 1; bit < 4; bit *= 2) {
    const bool upper = threadIdx.x & bit;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i / 2 & bit) continue;
      float &low = to[i], &high = to[i + 2 * bit];
      const float received = __shfl_xor_sync(kAllLanes, upper ? low : high, bit);
      (upper ? low : high) = received;
    }
  }
}

// A warp's 16 rows, from `row` on, of the 64 x 2 kSums that its warpgroup computed from column `column` on.
template <int kSums>
__device__ void store(const Output& y, int64_t row, int64_t column, const float (&sums)[kSums], Amax<4>& amax) {
  const int lane = threadIdx.x % kWarp, q = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t m = row + lane / 4 + half * 8;
    const Output::Row of_y = y.row(m);
    float largest = 0;
#pragma unroll
    for (int i = 0; i < kSums; i += 16) {  // 32 columns
      float neighbours[8];
      gather(sums, i, half, neighbours);
      largest = fmaxf(largest, y.store(of_y, column + i * 2 + q * 8, neighbours));
    }
    amax.add(m, largest);
  }
}

}  // namespace nemotron_h::cuda::gemm::hopper
