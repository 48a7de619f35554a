// Products of few rows of x: weights stream through shared memory, and are multiplied as they come.
//
// Rows of weights are wgmma's m, and rows of x, here tokens, its n. One warp loads, eight multiply. Two blocks make a
// cluster and take the upper and lower rows of a tile; each loads half of the tokens for both. Where clusters share a
// tile, each warp on its own leaves its sums in memory and takes a ticket; the last one adds up all, in the order of k.
#pragma once

#include "cuda/gemm/operand.cuh"
#include "cuda/gemm/product.h"
#include "cuda/gemm/streaming/config.h"
#include "cuda/scratch.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

namespace nemotron_h::cuda::gemm::streaming {

inline constexpr int kThreads = (kWarps + 1) * kWarp;

// Element types of operands: bf16; e4m3; for weights also uint8_t, fp8 of either format widened to bf16.
template <class X, class W, int kTokens>
struct Stage {
  static constexpr int kPanels = sizeof(X) / sizeof(W);  // as many k of x as of weights
  uint8_t weight[kBlockRows][kUnitBytes];
  uint8_t x[kPanels][kTokens][kUnitBytes];
};

template <class X, class W, int kTokens>
struct Shared {
  struct Kept {
    float turned[kWarps][16][kWarpRows + 4];  // tokens by rows of weights; the gap keeps banks apart
    uint64_t full[16], empty[16];
  };
  static constexpr int kStages = stages(sizeof(Stage<X, W, kTokens>), sizeof(Kept));
  static_assert(kStages <= 16);
  Stage<X, W, kTokens> stage[kStages];
  Kept kept;
};

// sums += 64 rows of weights, of which this warp has 16, by all tokens, over a stage of k.
template <class X, class W, int kTokens>
__device__ void multiply(const Stage<X, W, kTokens>& stage, [[maybe_unused]] const Widening& widening,
                         float (&sums)[kTokens / 2]) {
  constexpr int kStep = 32;  // bytes of k of an instruction
  const int warp = threadIdx.x / kWarp;
  const uint64_t x = matrix_descriptor(stage.x);
  if constexpr (std::is_same_v<W, uint8_t>) {
    // Of row r and k = 16 step + 2q, +1, +8, +9 of a unit; the step's 16 bytes are a chunk of the swizzle.
    const int lane = threadIdx.x % kWarp, r = lane / 4, q = lane % 4;
    constexpr int kSteps = kUnitBytes / 16, kStepsOfPanel = kUnitBytes / kStep, kStepsAtOnce = 2;
    const uint32_t half = q % 2 ? 0x7632 : 0x5410;
    uint32_t a[kSteps][4];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const auto word = [&](int down, int across) {
        const uint8_t* row = stage.weight[warp * kWarpRows + r + down];
        return *reinterpret_cast<const uint32_t*>(row + (step ^ r) * 16 + q / 2 * 4 + across);
      };
      const uint2 eight = {__byte_perm(word(0, 0), word(8, 0), half), __byte_perm(word(0, 8), word(8, 8), half)};
      widen(eight, widening, a[step]);
      if (step % kStepsAtOnce != kStepsAtOnce - 1) continue;
      wgmma_fence();  // and they are multiplied while the next are widened
#pragma unroll
      for (int i = step + 1 - kStepsAtOnce; i <= step; ++i)
        wgmma(sums, a[i], advance(x, i / kStepsOfPanel * sizeof stage.x[0] + i % kStepsOfPanel * kStep), true);
      wgmma_commit_group();
    }
    wgmma_wait_group<0>(sums);
  } else {
    const uint64_t weight = matrix_descriptor(stage.weight[warp / 4 * 64]);
    if constexpr (std::is_same_v<W, bf16>) {
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < kUnitBytes; k += kStep) wgmma<W, X>(sums, advance(weight, k), advance(x, k), true);
      wgmma_commit_group();
      wgmma_wait_group<0>(sums);
    } else {  // the tensor cores keep 14 bits of a sum of fp8: only within a unit
      float of_unit[kTokens / 2];
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < kUnitBytes; k += kStep) wgmma<W, X>(of_unit, advance(weight, k), advance(x, k), k > 0);
      wgmma_commit_group();
      wgmma_wait_group<0>(of_unit);
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i) sums[i] += of_unit[i];
    }
  }
}

// A slab of a tile, which several workers may share: what each of them has summed is a part of it.
template <int kTokens>
class Slab {
 public:
  static constexpr int kGroups = kTokens / 8;  // of tokens: four sums of a lane

  __device__ Slab(const Split& split, int tile, int slab, float4* parts, unsigned* tickets)
      : split_(split), tile_(tile), first_(split.first_worker(tile)), last_(split.last_worker(tile)),
        parts_(parts + slab * kGroups * kWarp + threadIdx.x % kWarp), ticket_(tickets + tile * kSlabs + slab) {}

  __device__ bool shared() const { return first_ < last_; }

  // Leaves a part. True in the last warp to come, which finds all.
  __device__ bool leave(int worker, int M, const float (&sums)[kTokens / 2]) const {
    float4* const to = part(worker);
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      const float* four = sums + 4 * j;
      const Pack<float, 4> pack = {four[0], four[1], four[2], four[3]};
      if (8 * j < M) store(reinterpret_cast<float*>(to + j * kWarp), pack);
    }
    __syncwarp();
    unsigned before = 0;
    const unsigned last = last_ - first_;
    if (threadIdx.x % kWarp == 0) {
      __threadfence();
      before = atomicInc(ticket_, last);  // which after the last is 0 again, for the next product
      __threadfence();
    }
    __syncwarp();
    return __shfl_sync(kAllLanes, before, 0) == last;
  }

  // The sums of all parts, in the order of k, of some tokens.
  template <int kSums>
  __device__ void gather(int token, int M, float (&sums)[kSums]) const {
    constexpr int kParts = 4;  // that are read at once
#pragma unroll
    for (int i = 0; i < kSums; ++i) sums[i] = 0;
#pragma unroll 1
    for (int worker = first_; worker <= last_; worker += kParts) {
      Pack<float, 4> parts[kParts][kSums / 4] = {};
#pragma unroll
      for (int p = 0; p < kParts; ++p)
#pragma unroll
        for (int j = 0; j < kSums / 4; ++j)
          if (worker + p <= last_ && token + 8 * j < M)
            parts[p][j] = load<4>(reinterpret_cast<const float*>(part(worker + p) + (token / 8 + j) * kWarp));
#pragma unroll
      for (int p = 0; p < kParts; ++p)
#pragma unroll
        for (int i = 0; i < kSums; ++i) sums[i] += parts[p][i / 4].v[i % 4];
    }
  }

 private:
  __device__ float4* part(int worker) const {
    return parts_ + int64_t{split_.part(worker, tile_)} * (kSlabs * kGroups * kWarp);
  }

  const Split& split_;
  int tile_, first_, last_;  // workers
  float4* parts_;            // [2 workers][kSlabs][kGroups][kWarp], from this slab and lane on
  unsigned* ticket_;
};

// Stores a slab, which is kWarpRows columns of y from column n on.
template <int kTokens>
__device__ void finish(const Slab<kTokens>& slab, const float (&sums)[kTokens / 2], int64_t n, const Output& y,
                       float (&turned)[16][kWarpRows + 4], Amax<2>& amax) {
  constexpr int kAtOnce = kTokens == 64 ? 32 : 16;  // tokens that are gathered, as registers allow
  const int lane = threadIdx.x % kWarp, r = lane / 4, q = lane % 4, M = static_cast<int>(y.M);
#pragma unroll 1
  for (int token = 0; token < M; token += kAtOnce) {
    float some[kAtOnce / 2];
    if (slab.shared()) slab.gather(token, M, some);
    else
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i)
        if (i / (kAtOnce / 2) == token / kAtOnce) some[i % (kAtOnce / 2)] = sums[i];
#pragma unroll 1
    for (int half = 0; half < kAtOnce / 16; ++half) {
      __syncwarp();  // all have read what was there
#pragma unroll
      for (int i = 0; i < kAtOnce / 2; ++i)
        if (i / 8 == half) turned[i / 4 % 2 * 8 + 2 * q + i % 2][r + i / 2 % 2 * 8] = some[i];
      __syncwarp();
      float columns[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) columns[i] = turned[lane / 2][lane % 2 * 8 + i];
      const int64_t m = token + half * 16 + lane / 2;
      amax.add(m, y.store(m, n + lane % 2 * 8, columns));
    }
  }
}

template <class X, class W, int kTokens>
__global__ void __launch_bounds__(kThreads, 1)
    kernel(const __grid_constant__ TensorMap weight_map, const __grid_constant__ TensorMap x_map, Split split,
           Widening widening, float4* parts, unsigned* tickets, Output y) {
#ifdef NEMOTRON_H_SM90A
  using S = Shared<X, W, kTokens>;
  constexpr int kStages = S::kStages;
  S& s = *static_cast<S*>(dynamic_smem());
  const int worker = blockIdx.x / kBlocks, rank = cluster_ctarank();
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int begin = worker * split.share, end = min(begin + split.share, split.units());

  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(&s.kept.full[i], 1);
      mbarrier_init(&s.kept.empty[i], kBlocks * kWarps);  // x goes to both blocks
    }
    fence_mbarrier_init();
  }
  barrier_cluster_arrive();
  barrier_cluster_wait();

  if (warp == kWarps) {
    if (elect_sync()) {
      constexpr int kPanels = Stage<X, W, kTokens>::kPanels, kHalf = kTokens / kBlocks;
      const auto load_weight = [&](int unit) {
        const int slot = (unit - begin) % kStages, round = (unit - begin) / kStages;
        const int tile = unit / split.depth, k = unit % split.depth;
        mbarrier_wait(&s.kept.empty[slot], (round ^ 1) & 1);  // the first round passes at once
        mbarrier_arrive_expect_tx(&s.kept.full[slot], sizeof s.stage[slot]);
        cp_async_bulk_tensor_2d_load(s.stage[slot].weight, weight_map, k * int{kUnitBytes / sizeof(W)},
                                     tile * kTileRows + rank * kBlockRows, &s.kept.full[slot], kEvictFirst);
      };
      const auto load_x = [&](int unit) {
        const int slot = (unit - begin) % kStages, k = unit % split.depth;
        for (int panel = 0; panel < kPanels; ++panel)
          cp_async_bulk_tensor_2d_load_multicast(s.stage[slot].x[panel][rank * kHalf], x_map,
                                                 (k * kPanels + panel) * int{kUnitBytes / sizeof(X)}, rank * kHalf,
                                                 &s.kept.full[slot], (1 << kBlocks) - 1);
      };
      const int ahead = min(begin + kStages, end);  // weights to have while the launch before makes x
      for (int unit = begin; unit < ahead; ++unit) load_weight(unit);
      wait_for_previous_launch();
      for (int unit = begin; unit < ahead; ++unit) load_x(unit);
      for (int unit = ahead; unit < end; ++unit) load_weight(unit), load_x(unit);
    }
    __syncwarp();
  } else {
    wait_for_previous_launch();
    float sums[kTokens / 2] = {};
    Amax<2> amax(y);
    for (int unit = begin; unit < end; ++unit) {
      const int slot = (unit - begin) % kStages, round = (unit - begin) / kStages;
      mbarrier_wait(&s.kept.full[slot], round & 1);
      multiply<X, W, kTokens>(s.stage[slot], widening, sums);
      __syncwarp();  // all lanes have read
      if (lane < kBlocks) mbarrier_arrive_cluster(mapa(&s.kept.empty[slot], lane));

      if (unit % split.depth < split.depth - 1 && unit < end - 1) continue;
      const int tile = unit / split.depth, index = rank * kWarps + warp;
      const Slab<kTokens> slab(split, tile, index, parts, tickets);
      if (!slab.shared() || slab.leave(worker, static_cast<int>(y.M), sums))
        finish(slab, sums, int64_t{tile} * kTileRows + index * kWarpRows, y, s.kept.turned[warp], amax);
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i) sums[i] = 0;
    }
    amax.finish();
  }
  barrier_cluster_arrive();  // a block must be there as long as the other one reports to it
  barrier_cluster_wait();
#endif
}

template <class X, class W, int kTokens>
void launch_kernel(const Product& p) {
  const int64_t bytes = p.K() * static_cast<int64_t>(sizeof(W));
  const Split work = split(p.y.N, bytes, current().processors);
  const Scratch parts(sizeof(float) * kTokens * kTileRows * work.parts());
  launch(kernel<X, W, kTokens>,
         {.grid = static_cast<unsigned>(work.workers() * kBlocks), .block = kThreads,
          .smem = sizeof(Shared<X, W, kTokens>), .cluster = kBlocks,
          .ahead = {p.b.data.get(), p.b.span_bytes()}},
         tensor_map(p.b, kBlockRows), tensor_map(p.a, kTokens / kBlocks), work, widening(p.b.dtype), parts.as<float4>(),
         current().tickets, p.y);
}

}  // namespace nemotron_h::cuda::gemm::streaming
