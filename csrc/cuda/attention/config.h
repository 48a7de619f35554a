// How attention is cut into work, from sizes alone.
//
// A row is a token and a query head; those of one sequence that share a key head lie one after the other, token by
// token, and a tile is some of them. Whatever the plan, the bits of a row are the same: its softmax begins anew at every
// multiple of kSplit keys, and these parts are merged in order, by the block that made them or by a second kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>

namespace nemotron_h::cuda::paged_attention {

inline constexpr int kSplit = 512;
inline constexpr int kWarpRows = 16;  // the m of mma.m16n8k16
inline constexpr int kMaxWarps = 4;
inline constexpr int kMaxWidth = 256;  // of a head

// Sequence s has its tiles from this one on, if its tokens begin at `offset`: at least as many as it needs.
constexpr __host__ __device__ int64_t first_tile(int64_t offset, int64_t s, int heads, int rows) {
  return offset * heads / rows + s;
}

struct Sizes {
  int64_t tokens, sequences;
  int heads;      // of queries, to a key head
  int groups;     // key heads, times the blocks that share the columns of one
  int64_t room;   // positions that the page table has
  int processors;
};

struct Plan {
  int warps;       // of a block, each with kWarpRows rows
  int64_t tiles;
  int64_t splits;  // 1: a block walks over all keys of its rows; else it takes one split
};

inline Plan plan(const Sizes& n) {
  Plan p;
  // One warp where the new tokens of a sequence fill no more: decode.
  p.warps = n.tokens * n.heads <= kWarpRows * n.sequences ? 1 : kMaxWarps;
  p.tiles = first_tile(n.tokens, n.sequences, n.heads, p.warps * kWarpRows);
  // Splits where the tiles alone would leave the GPU idle, and the parts take no more than 128 MiB.
  constexpr int64_t kFull = 4, kMostParts = (128 << 20) / (kMaxWidth * sizeof(float)), kMostSplits = 65535;
  p.splits = (n.room + kSplit - 1) / kSplit;
  if (p.tiles * n.groups >= kFull * n.processors || n.tokens * n.heads * n.groups * p.splits > kMostParts ||
      p.splits > kMostSplits || p.splits < 1)
    p.splits = 1;
  return p;
}

}  // namespace nemotron_h::cuda::paged_attention
