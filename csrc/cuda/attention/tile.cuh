// Attention of bf16 on tensor cores (mma.sync: any architecture): a tile of rows against the keys of its sequence.
//
// Keys and values come in blocks of kKeys that begin at multiples of kKeys, by cp.async, the next while one is used.
// Scores and the weighted sum stay in f32; a weight is rounded to bf16, as an operand of its product with the values,
// when it is still relative to the largest score so far, in [0,1]. A thread holds two rows of its warp's 16.
#pragma once

#include <cstring>

#include "cuda/attention/config.h"
#include "cuda/attention/pages.cuh"
#include "cuda/attention/softmax.cuh"

namespace nemotron_h::cuda::paged_attention {

// KV: bf16, or e4m3 with scales.
template <class KV>
struct Problem {
  Rows<const bf16> q;               // [T,H*P]
  const KV *k, *v;                  // [Pages*PageSize,G*P]
  const float *k_scales, *v_scales; // [G], or null
  float* lse;                       // [T,H], or null
  bf16* y;                          // [T,H*P]
  PagedBatch batch;
  int heads, groups, P;             // heads of queries to a key head; H = groups * heads
  float scale;                      // of scores, log2(e) included
  bool q_packs, kv_packs, y_packs;  // whether rows can be accessed kPack elements at a time
  int decoded;  // sequences of up to so many new tokens are for decode_kernel

  __device__ float scale_of_scores(int g) const { return k_scales ? scale * k_scales[g] : scale; }
  __device__ float scale_of_values(int g) const { return v_scales ? v_scales[g] : 1; }
};

// P <= kP; a block makes kColumns of the columns of y.
template <int kP>
struct Tile {
  static constexpr int kColumns = kP < 128 ? kP : 128;
  static constexpr int kKeys = kP > 128 ? 32 : 64;
  static constexpr int kStage = kKeys * (kP + kColumns);  // elements: keys and values
  static size_t smem(int warps) { return (warps * kWarpRows * kP + 2 * kStage) * sizeof(bf16); }
};

// Where kPack elements of a row of a tile in shared memory lie: permuted so that eight rows of one column are in
// different banks.
template <int kWidth>
__device__ int swizzled(int row, int pack) {
  return row * kWidth + (pack ^ (row & 7)) * kPack;
}

// n of kPack elements, zeros in place of the others; where kPacked, bf16 by cp.async, and they come all or not at all.
template <bool kPacked, class T>
__device__ void fetch(bf16* to, const T* from, int n) {
  if constexpr (kPacked && std::is_same_v<T, bf16>) {
    cp_async_16(to, from, n > 0);
  } else if constexpr (kPacked) {
    float values[kPack] = {};
    if (n > 0) load(from, values);
    *reinterpret_cast<Pack<bf16, kPack>*>(to) = narrow<bf16>(values);
  } else {
#pragma unroll 1
    for (int i = 0; i < kPack; ++i) to[i] = i < n ? narrow<bf16>(widen(from[i])) : bf16{0};
  }
}

// f.template operator()<value>(arguments...).
template <class F, class... A>
__device__ void with_bool(bool value, F f, A... arguments) {
  if (value) f.template operator()<true>(arguments...);
  else f.template operator()<false>(arguments...);
}

// Takes a block of keys and values into the softmax of a warp's rows. sees: how many of the keys each row sees, the
// first row no more than the second.
template <int kP>
__device__ void attend(const bf16* queries, const bf16* keys, const bf16* values, float scale, const int (&sees)[2],
                       Accumulator<Tile<kP>::kColumns>& sum) {
  constexpr int kKeys = Tile<kP>::kKeys, kColumns = Tile<kP>::kColumns;
  const int lane = threadIdx.x % kWarp, row = lane % 8, half = lane / 8 % 2, quarter = lane / 16;

  float s[kKeys / 8][4] = {};
#pragma unroll 4
  for (int k = 0; k < kP / 16; ++k) {
    uint32_t a[4];
    ldmatrix_x4(a, queries + swizzled<kP>(row + 8 * half, 2 * k + quarter));
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      uint32_t b[4];
      ldmatrix_x4(b, keys + swizzled<kP>(16 * n + row + 8 * quarter, 2 * k + half));
      mma_m16n8k16_bf16(s[2 * n], a, {b[0], b[1]});
      mma_m16n8k16_bf16(s[2 * n + 1], a, {b[2], b[3]});
    }
  }

  weigh(s, scale, sees, sum);

#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    uint32_t a[4];
    weights_operand(s, k, a);
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, values + swizzled<kColumns>(16 * k + row + 8 * half, 2 * n + quarter));
      mma_m16n8k16_bf16(sum.values[2 * n], a, {b[0], b[1]});
      mma_m16n8k16_bf16(sum.values[2 * n + 1], a, {b[2], b[3]});
    }
  }
}

template <int kP, class KV>
__global__ void __launch_bounds__(kMaxWarps * kWarp, 2) tile_kernel(Problem<KV> p, Faults faults) {
  wait_for_previous_launch();
  using Tile = Tile<kP>;
  constexpr int kKeys = Tile::kKeys, kColumns = Tile::kColumns;
  if (faults.pending()) return;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int warps = blockDim.x / kWarp, rows = warps * kWarpRows;

  // The sequence of this tile, and its rows; those with the most keys come first.
  const int64_t tile = gridDim.x - 1 - blockIdx.x;
  const int s = p.batch.last_from(tile, [&](int i) { return first_tile(p.batch.offsets[i], i, p.heads, rows); });
  const int begin = p.batch.offsets[s], past = p.batch.past[s], count = p.batch.tokens(s) * p.heads;
  const int first = static_cast<int>(tile - first_tile(begin, s, p.heads, rows)) * rows;
  if (first >= count || p.batch.tokens(s) <= p.decoded) return;
  const auto position = [&](int row) { return past + min(row, count - 1) / p.heads; };

  const int64_t H = p.groups * p.heads;
  const int g = blockIdx.y % p.groups, column = blockIdx.y / p.groups * kColumns;
  const auto token_of = [&](int row) { return int64_t{begin} + row / p.heads; };
  const auto head_of = [&](int row) { return g * p.heads + row % p.heads; };

  const int end = position(first + rows - 1) + 1;

  bf16* queries = static_cast<bf16*>(dynamic_smem());
  const auto stage = [&](int at) { return queries + rows * kP + at / kKeys % 2 * Tile::kStage; };
  const auto fetch_queries = [&]<bool kPacked>() {
    for (int i = threadIdx.x; i < rows * kP / kPack; i += blockDim.x) {
      const int row = i / (kP / kPack), pack = i % (kP / kPack), from = first + row;
      fetch<kPacked>(queries + swizzled<kP>(row, pack), p.q[token_of(from)] + head_of(from) * p.P + pack * kPack,
                     from < count ? p.P - pack * kPack : 0);
    }
  };
  // A warp fetches `share` keys and values of a block; a lane finds out where one of them lies, or one of each half.
  constexpr int kPacks = kP / kPack, kAtOnce = kWarp / kPacks;
  [[maybe_unused]] constexpr int kUnroll = std::is_same_v<KV, bf16> ? 4 : 1;  // others come through registers
  const int share = kKeys / warps, pack = lane % kPacks;
  const KV *k = p.k + g * p.P + pack * kPack, *v = p.v + g * p.P + column + pack * kPack;
  const auto fetch_block = [&]<bool kPacked>(int at) {
    bf16 *keys = stage(at), *values = keys + kKeys * kP;
#pragma unroll
    for (int half = 0; half < kKeys / kWarp; ++half) {
      const int begin = warp * share + half * kWarp, key = at + begin + lane;
      const int64_t own = key < end ? p.batch.place(s, key) * p.groups * p.P : -1;  // elements from the pool's first
      for (int i = 0; i < min(share - half * kWarp, kWarp); i += 4 * kAtOnce) {
#pragma unroll kUnroll
        for (int n = 0; n < 4; ++n) {
          const int from = i + n * kAtOnce + lane / kPacks, row = begin + from;
          const int64_t offset = __shfl_sync(kAllLanes, own, from), at = max(offset, int64_t{0});
          const int columns = offset < 0 ? 0 : p.P - pack * kPack;
          fetch<kPacked>(keys + swizzled<kP>(row, pack), k + at, columns);
          if (pack < kColumns / kPack)
            fetch<kPacked>(values + swizzled<kColumns>(row, pack), v + at, columns - column);
        }
      }
    }
    cp_async_commit_group();
  };

  const float scale = p.scale_of_scores(g);
  bf16* own_queries = queries + warp * kWarpRows * kP;
  const int own_first = first + warp * kWarpRows, last_seen = position(own_first + kWarpRows - 1);
  const int seen[2] = {position(own_first + lane / 4), position(own_first + lane / 4 + 8)};
  Accumulator<kColumns> sum, part;
  sum.clear(), part.clear();
  const auto finish_part = [&] {
    part.total[0] = quad_reduce(part.total[0], Sum{}), part.total[1] = quad_reduce(part.total[1], Sum{});
    sum.take(part);
    part.clear();
  };

  with_bool(p.q_packs, fetch_queries);
  with_bool(p.kv_packs, fetch_block, 0);
  for (int key = 0; key < end; key += kKeys) {
    cp_async_wait_group<0>();
    __syncthreads();  // this block has come for all threads, and all have done with the one before
    if (key + kKeys < end) with_bool(p.kv_packs, fetch_block, key + kKeys);
    if (key % kSplit == 0) finish_part();
    if (key <= last_seen)
      attend<kP>(own_queries, stage(key), stage(key) + kKeys * kP, scale, {seen[0] + 1 - key, seen[1] + 1 - key}, part);
  }
  finish_part();

  // Through shared memory, in place of the warp's queries, to rows of y.
  __syncwarp();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = own_first + lane / 4 + 8 * r;
    if (p.lse && lane % 4 == 0 && column == 0 && row < count)
      p.lse[token_of(row) * H + head_of(row)] = log_sum(sum.largest[r], sum.total[r]);
    const float inverse = p.scale_of_values(g) / sum.total[r];
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n)
      *reinterpret_cast<uint32_t*>(own_queries + swizzled<kP>(lane / 4 + 8 * r, n) + lane % 4 * 2) =
          bf16_pair(sum.values[n][2 * r] * inverse, sum.values[n][2 * r + 1] * inverse);
  }
  __syncwarp();
  for (int i = lane; i < kWarpRows * kColumns / kPack; i += kWarp) {
    const int row = own_first + i / (kColumns / kPack), pack = i % (kColumns / kPack), c = column + pack * kPack;
    if (row >= count) break;
    const bf16* from = own_queries + swizzled<kP>(i / (kColumns / kPack), pack);
    bf16* to = p.y + (token_of(row) * H + head_of(row)) * p.P + c;
    if (!p.y_packs) {
      for (int j = 0; j < min(kPack, p.P - c); ++j) to[j] = from[j];
    } else if (c < p.P) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    }
  }
}

}  // namespace nemotron_h::cuda::paged_attention
