// How attention of many new tokens is cut: into items, a query head of up to 128 neighbouring tokens of a sequence,
// which blocks take one after another.
#pragma once

#include "cuda/attention/pages.cuh"
#include "cuda/gemm/operand.cuh"
#include "cuda/ssm/pieces.cuh"

namespace nemotron_h::cuda::paged_attention::hopper {

inline constexpr int kRows = 128;  // tokens of an item
inline constexpr int kKeys = 128;  // of a tile, which begins at a multiple of this in the sequence

struct Work {
  PagedBatch batch;
  const float *k_scales, *v_scales;  // [G], or null
  float* lse;                        // [T,H], or null
  bf16* y;          // [T,H*P]
  bool y_packs;     // whether rows can be written 16 bytes at a time
  int H, heads;     // of queries, and of these to a key head
  int decoded;      // tokens: sequences that have no more are not ours
  float scale;      // of scores, log2(e) included
  int pieces;       // of kRows tokens, as many as there can be
  unsigned* taken;  // items: at first none
  gemm::Widening widening;
  Faults faults;

  __host__ __device__ unsigned items() const { return static_cast<unsigned>(pieces) * H; }
  __device__ float scale_of_scores(int head) const { return k_scales ? scale * k_scales[head / heads] : scale; }
  __device__ float scale_of_values(int head) const { return v_scales ? v_scales[head / heads] : 1; }
};

struct Item {
  int sequence = 0, head = -1;  // a head of -1: there are no more
  int token = 0;                // the first, in the batch
  int rows = 0;                 // tokens
  int position = 0;             // of the first, in the sequence
  int length = 0;               // of the sequence: keys that the cache holds

  __device__ int tiles() const { return (position + rows + kKeys - 1) / kKeys; }
};

// Those with the most keys of a sequence come first, so that the last ones are short; the heads that share keys come
// together, so that they find them in L2. Without rows: nothing to do.
__device__ inline Item find_item(const Work& work, unsigned number) {
  if (number >= work.items()) return {};
  const PagedBatch& batch = work.batch;
  const Piece piece = find_piece(batch.offsets, batch.sequences, work.pieces - 1 - number / work.H, kRows, 1);
  const int s = piece.sequence, first = static_cast<int>(piece.index) * kRows, tokens = batch.tokens(s);
  return {.sequence = s, .head = static_cast<int>(number % work.H), .token = batch.offsets[s] + first,
          .rows = tokens > work.decoded ? min(kRows, tokens - first) : 0, .position = batch.past[s] + first,
          .length = batch.past[s] + tokens};
}

// By a warp: whether there are any, which among batches of decoding there are not.
__device__ inline bool has_items(const Work& work) {
  bool any = false;
  for (int s = threadIdx.x % kWarp; s < work.batch.sequences; s += kWarp) any |= work.batch.tokens(s) > work.decoded;
  return __any_sync(kAllLanes, any);
}

// By a warp.
__device__ inline Item next_item(const Work& work) {
  Item item;
  do {
    unsigned number = 0;
    if (threadIdx.x % kWarp == 0) number = atomicAdd(work.taken, 1u);
    item = find_item(work, __shfl_sync(kAllLanes, number, 0));
  } while (item.head >= 0 && item.rows <= 0);
  return item;
}

}  // namespace nemotron_h::cuda::paged_attention::hopper
