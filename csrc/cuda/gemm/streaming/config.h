// How a product of few rows of x is cut into work: from N, K and the GPU alone, never from M, so that a row has the
// same bits in any batch.
//
// Weights are read once, in units of kTileRows rows by kUnitBytes. Units are numbered along k first, then tile by tile,
// and each worker takes an equal run of them (stream-K: Osama et al., arXiv:2301.03598), so that all end together,
// however many tiles there are. What workers make of a tile that they share are its parts, added up in the order of k.
#pragma once

#include <cstdint>

namespace nemotron_h::cuda::gemm::streaming {

inline constexpr int kMaxRows = 128;  // of x
inline constexpr int kUnitBytes = 128;  // of a row of weights: the width of a swizzled box
inline constexpr int kWarps = 8, kWarpRows = 16;  // that multiply, and rows of weights of each
inline constexpr int kBlockRows = kWarps * kWarpRows;
inline constexpr int kBlocks = 2;  // of a worker: a cluster, which reads x once
inline constexpr int kTileRows = kBlocks * kBlockRows;
inline constexpr int kSlabs = kBlocks * kWarps;  // of a tile: what a warp makes of it

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Split {
  int tiles, depth;  // units of a tile
  int share;         // units of a worker

  constexpr int units() const { return tiles * depth; }
  constexpr int workers() const { return static_cast<int>(ceil_div(units(), share)); }

  // The workers that share a tile, in the order of k.
  constexpr int first_worker(int tile) const { return tile * depth / share; }
  constexpr int last_worker(int tile) const { return ((tile + 1) * depth - 1) / share; }
  // Where the part of one of them lies: a worker shares no more than the tiles that it begins and ends with.
  constexpr int part(int worker, int tile) const { return 2 * worker + (worker * share < tile * depth); }
  constexpr int parts() const { return 2 * workers(); }
  // Of all warps.
  constexpr int tickets() const { return tiles * kSlabs; }
};

// bytes: of a row of weights.
constexpr Split split(int64_t N, int64_t bytes, int processors) {
  const int workers = processors < kBlocks ? 1 : processors / kBlocks;
  const int tiles = static_cast<int>(ceil_div(N, kTileRows)), depth = static_cast<int>(ceil_div(bytes, kUnitBytes));
  return {tiles, depth, static_cast<int>(ceil_div(int64_t{tiles} * depth, workers))};
}

// The share of the time that workers are at work, and that the rows they read exist.
constexpr double balance(int64_t N, int64_t bytes, int processors) {
  const Split s = split(N, bytes, processors);
  return double(N) / kTileRows * s.depth / (double(s.share) * (processors / kBlocks));
}
static_assert(split(18560, 8192, 132).share == 71);     // in_proj of the 8B model in bf16: 73 tiles of 64 units
static_assert(balance(18560, 8192, 132) > 0.98);
static_assert(balance(18560, 4096, 132) > 0.97);        // and in fp8
static_assert(balance(4096, 21504 * 2, 132) > 0.98);    // down of the same
static_assert(balance(1024, 8192, 132) > 0.96);         // its keys: 4 tiles, of 16 parts each
static_assert(balance(37120, 8192, 132) > 0.99);        // in_proj of the 56B model in fp8
static_assert(balance(131072, 4096, 132) > 0.99);       // a vocabulary
static_assert(split(1024, 8192, 132).last_worker(1) - split(1024, 8192, 132).first_worker(1) == 15);
static_assert(split(256, 128, 132).workers() == 1);

// Stages of k that shared memory has beside `kept` bytes.
constexpr int stages(int stage, int kept) { return ((227 << 10) - kept) / stage; }

}  // namespace nemotron_h::cuda::gemm::streaming
