// Attention in f32 throughout, for f32 activations: a warp has kRows rows, and shares keys and values with the others
// of its block.
#pragma once

#include "cuda/attention/config.h"
#include "cuda/attention/pages.cuh"
#include "cuda/attention/softmax.cuh"

namespace nemotron_h::cuda::paged_attention {

// KV: float, or e4m3 with scales.
template <class KV>
struct ExactProblem {
  Rows<const float> q;               // [T,H*P]
  const KV *k, *v;                   // [Pages*PageSize,G*P]
  const float *k_scales, *v_scales;  // [G], or null
  float* lse;                        // [T,H], or null
  float* y;                          // [T,H*P]
  PagedBatch batch;
  int heads, groups, P;
  float scale;  // of scores, log2(e) included
};

template <int kColumns>  // of a lane: at least P / 32
struct Exact {
  static constexpr int kWarps = 4, kRows = 4, kKeys = kWarp;
  static constexpr int kTile = kWarps * kRows;
  // Queries, keys with a word between them against bank conflicts, values.
  static size_t smem(int P) { return (kTile * P + kKeys * (P + 1) + kKeys * P) * sizeof(float); }
};

template <int kColumns, class KV>
__global__ void __launch_bounds__(Exact<kColumns>::kWarps * kWarp, 4)
    exact_kernel(ExactProblem<KV> p, Faults faults) {
  wait_for_previous_launch();
  using Exact = Exact<kColumns>;
  constexpr int kRows = Exact::kRows, kKeys = Exact::kKeys, kTile = Exact::kTile;
  if (faults.pending()) return;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, P = p.P;

  const int64_t tile = gridDim.x - 1 - blockIdx.x;
  const int s = p.batch.last_from(tile, [&](int i) { return first_tile(p.batch.offsets[i], i, p.heads, kTile); });
  const int begin = p.batch.offsets[s], past = p.batch.past[s], count = p.batch.tokens(s) * p.heads;
  const int first = static_cast<int>(tile - first_tile(begin, s, p.heads, kTile)) * kTile;
  if (first >= count) return;
  const int g = blockIdx.y;
  const float scale = p.k_scales ? p.scale * p.k_scales[g] : p.scale;
  const auto position = [&](int row) { return past + min(row, count - 1) / p.heads; };
  const auto head_of = [&](int row) { return g * p.heads + row % p.heads; };

  float* queries = static_cast<float*>(dynamic_smem());
  float *keys = queries + kTile * P, *values = keys + kKeys * (P + 1);
  for (int r = warp; r < kTile && first + r < count; r += Exact::kWarps)
    for (int c = lane; c < P; c += kWarp)
      queries[r * P + c] = p.q[begin + (first + r) / p.heads][head_of(first + r) * P + c];

  auto& weights = shared<float[Exact::kWarps][kKeys][kRows], struct Weights>()[warp];
  const int own = first + warp * kRows;
  float largest[kRows], total[kRows], sum[kRows][kColumns];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    largest[r] = -INFINITY, total[r] = 0;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sum[r][c] = 0;
  }

  const int end = position(first + kTile - 1) + 1;
  for (int key = 0; key < end; key += kKeys) {
    __syncthreads();
    for (int j = warp; j < kKeys && key + j < end; j += Exact::kWarps) {
      const int64_t from = (p.batch.place(s, key + j) * p.groups + g) * P;
      for (int c = lane; c < P; c += kWarp) {
        keys[j * (P + 1) + c] = widen(p.k[from + c]), values[j * P + c] = widen(p.v[from + c]);
      }
    }
    __syncthreads();

    float scores[kRows] = {};
    for (int c = 0; c < P && key + lane < end; ++c) {
      const float k = keys[lane * (P + 1) + c];
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (own + r < count) scores[r] = fmaf(queries[(warp * kRows + r) * P + c], k, scores[r]);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (key > position(own + r)) continue;
      const bool sees = key + lane <= position(own + r);
      const float score = sees ? scores[r] * scale : -INFINITY;
      const float larger = fmaxf(largest[r], warp_reduce(score, Max{}));
      const float kept = ex2_approx_ftz(largest[r] - larger), weight = sees ? ex2_approx_ftz(score - larger) : 0;
      largest[r] = larger;
      total[r] = fmaf(total[r], kept, warp_reduce(weight, Sum{}));
      weights[lane][r] = weight;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sum[r][c] *= kept;
    }
    __syncwarp();
    for (int j = 0; j < kKeys && key + j < end; ++j) {
      float v[kColumns];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) v[c] = c * kWarp + lane < P ? values[j * P + c * kWarp + lane] : 0;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (key + j > position(own + r)) continue;  // whatever the value is, NaN perhaps, it does not count
#pragma unroll
        for (int c = 0; c < kColumns; ++c) sum[r][c] = fmaf(weights[j][r], v[c], sum[r][c]);
      }
    }
  }

#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (own + r >= count) break;
    const int64_t row = (begin + (own + r) / p.heads) * int64_t{p.groups} * p.heads + head_of(own + r);
    if (p.lse && lane == 0) p.lse[row] = log_sum(largest[r], total[r]);
    float* to = p.y + row * P;
    const float inverse = (p.v_scales ? p.v_scales[g] : 1) / total[r];
    for (int c = 0; c < kColumns; ++c)
      if (c * kWarp + lane < P) to[c * kWarp + lane] = sum[r][c] * inverse;
  }
}

}  // namespace nemotron_h::cuda::paged_attention
