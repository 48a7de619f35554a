// How attention is cut into work.
//
// A row is a token and a query head; those of one sequence that share a key head lie one after the other, token by
// token, and a tile is some of them. With `decode` sequences of up to kDecodeTokens new tokens are decode_kernel's where it
// can; the others, and all without, are tile_kernel's or Hopper's. The bits of a row are the same in decode_kernel and
// tile_kernel: its softmax begins anew at every multiple of kSplit keys, and these parts are merged in order, whoever made
// them. Hopper's kernel sums in another order.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace nemotron_h::cuda::paged_attention {

inline constexpr int kSplit = 512;
inline constexpr int kDecodeTokens = 8;
inline constexpr int kWarpRows = 16;  // the m of mma.m16n8k16
inline constexpr int kMaxWarps = 4;
inline constexpr int kMaxWidth = 256;  // of a head

// Sequence s has its tiles from this one on, if its tokens begin at `offset`: at least as many as it needs.
constexpr __host__ __device__ int64_t first_tile(int64_t offset, int64_t s, int heads, int rows) {
  return offset * heads / rows + s;
}

}  // namespace nemotron_h::cuda::paged_attention
