// Into which tiles a product is cut on sm_90a, and when two blocks share an operand. As in ../config.h the choice is of
// speed alone: every tile adds up the products of an element in the same order of k.
#pragma once

#include <algorithm>
#include <cstdint>

namespace nemotron_h::cuda::gemm::hopper {

inline constexpr int kDepth = 128;  // bytes of k of a stage: what TMA swizzles, and after which fp8 sums are promoted
inline constexpr int kConsumers = 2, kThreads = (1 + kConsumers) * 128;

// What a block computes, and how many stages shared memory holds. Two blocks that share an operand share the wider one,
// of which each loads half: then their tiles lie below each other, or side by side.
template <int kRowsOfY, int kColsOfY, int kStagesHeld, bool kIsPromoted = false>
struct Tile {
  static constexpr int kRows = kRowsOfY, kCols = kColsOfY, kStages = kStagesHeld;
  static constexpr bool kPromoted = kIsPromoted;
  static constexpr int kSlabs = kRows / (64 * kConsumers);  // of 64 rows, which a consumer has
  static constexpr bool kSharesB = kCols >= kRows;

  // Of y, by a cluster of 1 or 2 blocks.
  static constexpr int rows(int cluster) { return kSharesB ? kRows * cluster : kRows; }
  static constexpr int cols(int cluster) { return kSharesB ? kCols : kCols * cluster; }

  // That a stage takes at least: 4096 products of fp8 at a time on tensor cores, 128 bytes of shared memory, which TMA
  // writes and wgmma reads, the columns once more for every 64 rows, and 32 bytes from L2, where all SMs ask for them.
  static constexpr int clocks(int cluster) {
    constexpr int narrow = std::min(kRows, kCols), wide = std::max(kRows, kCols);
    constexpr int products = kRows * kCols * kDepth / 4096;
    constexpr int shared = (kRows + kCols + kRows / 64 * (64 + kCols)) * kDepth / 128;
    return std::max({products, shared, (narrow + wide / cluster) * kDepth / 32});
  }
};
using Wide = Tile<128, 256, 4>;
using Square = Tile<128, 128, 6>;
using Promoted = Tile<256, 128, 4, true>;
static_assert(Wide::clocks(1) == 1536 && Wide::clocks(2) == 1024);
static_assert(Square::clocks(1) == 1024 && Square::clocks(2) == 768);
static_assert(Promoted::clocks(1) == 1536 && Promoted::clocks(2) == 1152);

// How clusters cover y.
struct Plan {
  int cluster;       // blocks
  int down, across;  // clusters' tiles
  int64_t clocks;    // of all waves, for each stage

  constexpr int tiles() const { return down * across; }
  constexpr int blocks(int processors) const { return std::min(tiles(), processors / cluster) * cluster; }
};

template <class Tile>
constexpr Plan plan(int64_t M, int64_t N, int processors, int cluster) {
  const int64_t rows = Tile::rows(cluster), cols = Tile::cols(cluster), at_once = processors / cluster;
  const int64_t down = (M + rows - 1) / rows, across = (N + cols - 1) / cols;
  const int64_t waves = (down * across + at_once - 1) / at_once;
  return {cluster, static_cast<int>(down), static_cast<int>(across), waves * Tile::clocks(cluster)};
}
// In pairs where there are two tiles for a pair, and an odd one out does not cost a wave too many.
template <class Tile>
constexpr Plan plan(int64_t M, int64_t N, int processors) {
  const Plan alone = plan<Tile>(M, N, processors, 1);
  if ((Tile::kSharesB ? M <= Tile::kRows : N <= Tile::kCols) || processors < 2) return alone;
  const Plan pairs = plan<Tile>(M, N, processors, 2);
  return pairs.clocks <= alone.clocks ? pairs : alone;
}
constexpr bool is_wide(int64_t M, int64_t N, int processors) {
  return plan<Wide>(M, N, processors).clocks <= plan<Square>(M, N, processors).clocks;
}

// Prefill of 8192 tokens: in_proj, out_proj and an MLP of the 8B model, in_proj of the 56B model.
static_assert(is_wide(8192, 18560, 132) && plan<Wide>(8192, 18560, 132).cluster == 2);
static_assert(is_wide(8192, 4096, 132) && plan<Wide>(8192, 4096, 132).cluster == 2);
static_assert(is_wide(8192, 21504, 132) && is_wide(8192, 37120, 132));
static_assert(plan<Wide>(8192, 4096, 132).clocks == 8 * 1024);  // 512 pairs of tiles in waves of 66
static_assert(plan<Promoted>(8192, 4096, 132).cluster == 2);
static_assert(!is_wide(512, 4096, 132));  // 64 pairs of 256 x 128 keep all SMs busy, 32 of 256 x 256 do not
static_assert(plan<Square>(100, 4096, 132).cluster == 1);    // no second tile below
static_assert(plan<Wide>(384, 44 * 256, 132).cluster == 1);  // three tiles high: 132, and 176 in pairs
static_assert(plan<Wide>(8192, 4096, 1).cluster == 1);

// f.template operator()<Tile>() with the tile of a product, bf16 or of fast fp8.
template <class F>
void with_tile(int64_t M, int64_t N, int processors, F f) {
  if (is_wide(M, N, processors)) f.template operator()<Wide>();
  else f.template operator()<Square>();
}

}  // namespace nemotron_h::cuda::gemm::hopper
