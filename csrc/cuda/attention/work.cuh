// What the blocks of decode_kernel do: every block finds its own share, from the lengths as they are on the device.
//
// Rows are cut into tiles, and keys into parts of kSplit; an item is a tile and a part. The items of a sequence follow
// one another by key head, tile and part, so those of one tile, a segment, are neighbours. Workers take equal shares of
// all items: a segment may be one worker's, or begin with one and end with another.
#pragma once

#include "cuda/attention/config.h"
#include "cuda/attention/pages.cuh"

namespace nemotron_h::cuda::paged_attention {

struct Work {
  PagedBatch batch;
  int heads, groups;  // heads of queries to a key head
  int rows = 0;       // of a tile

  __device__ int length(int s) const { return batch.past[s] + batch.tokens(s); }
  __device__ int parts(int s) const { return static_cast<int>(ceil_div(length(s), kSplit)); }
  __device__ int tiles(int s) const { return static_cast<int>(ceil_div(int64_t{batch.tokens(s)} * heads, rows)); }
  // None for what is not decoded.
  __device__ int64_t items(int s) const {
    const int tokens = batch.tokens(s);
    return tokens > 0 && tokens <= kDecodeTokens ? int64_t{parts(s)} * tiles(s) * groups : 0;
  }
};

// All items among the workers, none of whom has fewer than one.
struct Shares {
  int64_t items;
  int workers;

  __device__ int64_t begin(int worker) const { return items * worker / workers; }
  __device__ int worker(int64_t item) const { return static_cast<int>(((item + 1) * workers - 1) / items); }
};

// Where a worker is: a block of keys of an item.
struct Cursor {
  int s, g, tile, part;  // sequence, key head, tile, part
  int tiles, parts, length;  // of the sequence
  int key;               // the first of the block

  __device__ int end() const { return min(length, (part + 1) * kSplit); }
  __device__ bool last_of_item(int keys) const { return key + keys >= end(); }

  // The first sequence from `from` on that has items, at its first.
  __device__ void enter(const Work& work, int from) {
    for (s = from; s < work.batch.sequences && work.items(s) == 0;) ++s;
    g = tile = part = key = 0;
    if (s == work.batch.sequences) return;
    tiles = work.tiles(s), parts = work.parts(s), length = work.length(s);
  }
  __device__ void advance(const Work& work, int keys) {
    const bool done = last_of_item(keys);
    key += keys;
    if (!done || ++part < parts) return;
    part = key = 0;
    if (++tile < tiles) return;
    tile = 0;
    if (++g < work.groups) return;
    enter(work, s + 1);
  }
};

// Item `item` of all, where `before` is how many come before those of sequence s.
__device__ inline Cursor find_item(const Work& work, int64_t item, int s, int64_t before) {
  Cursor at;
  for (;; before += work.items(s++))
    if (item < before + work.items(s)) break;
  at.enter(work, s);
  const int64_t within = item - before, segment = within / at.parts;
  at.part = static_cast<int>(within % at.parts), at.key = at.part * kSplit;
  at.tile = static_cast<int>(segment % at.tiles), at.g = static_cast<int>(segment / at.tiles);
  return at;
}

// The shares of a grid of blocks of kThreads, and in `at` the first item of this one, if it has any. counts: [kThreads],
// in shared memory; free after a barrier.
template <int kThreads>
__device__ Shares share_out(const Work& work, int64_t* counts, Cursor& at) {
  const int sequences = work.batch.sequences, each = static_cast<int>(ceil_div(sequences, kThreads));
  const int counted = static_cast<int>(ceil_div(sequences, each));  // threads
  int64_t own = 0;
  for (int s = threadIdx.x * each; s < min(sequences, static_cast<int>(threadIdx.x + 1) * each); ++s)
    own += work.items(s);
  counts[threadIdx.x] = own;
  __syncthreads();

  Shares shares{};
  for (int i = 0; i < counted; ++i) shares.items += counts[i];
  shares.workers = static_cast<int>(min(int64_t{gridDim.x}, shares.items));
  if (static_cast<int>(blockIdx.x) >= shares.workers) return shares;
  const int64_t begin = shares.begin(blockIdx.x);
  int64_t before = 0;
  int i = 0;
  for (; before + counts[i] <= begin; ++i) before += counts[i];
  at = find_item(work, begin, i * each, before);
  return shares;
}

}  // namespace nemotron_h::cuda::paged_attention
