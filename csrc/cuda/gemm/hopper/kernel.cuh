// Products on sm_90a: a persistent kernel, fed by TMA, multiplied by wgmma.
//
// A block takes one tile of y after another. Its first warpgroup produces: one thread keeps all stages on their way,
// and runs ahead into the next tile while the other two warpgroups, which consume, store this one. A stage has two
// barriers: `full` (its bytes have landed) and `empty` (all who read it have). Of a pair of blocks each loads half of
// the shared operand for both, so a stage is empty when the consumers of both have read it.
#pragma once

#include "cuda/gemm/hopper/config.h"
#include "cuda/gemm/hopper/epilogue.cuh"
#include "cuda/gemm/product.h"
#include "cuda/pipeline.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

namespace nemotron_h::cuda::gemm::hopper {

template <class Tile>
struct Shared {
  struct Stage {
    uint8_t a[Tile::kRows * kDepth], b[Tile::kCols * kDepth];
  } stages[Tile::kStages];
  uint64_t full[Tile::kStages], empty[Tile::kStages];
};

// f(row, column) with where the tiles of this block begin. Clusters that run together lie together, up to 2048 rows
// high, so that most of what they read is in L2.
template <class Tile, class F>
__device__ void for_tiles(const Plan& plan, F f) {
  const int rows = Tile::rows(plan.cluster), cols = Tile::cols(plan.cluster), rank = cluster_ctarank();
  const int group = 2048 / rows * plan.across;
  for (int i = blockIdx.x / plan.cluster; i < plan.tiles(); i += gridDim.x / plan.cluster) {
    const int top = i / group * (2048 / rows), high = min(2048 / rows, plan.down - top);
    const int row = (top + i % group % high) * rows, column = i % group / high * cols;
    if constexpr (Tile::kSharesB) f(row + rank * Tile::kRows, column);
    else f(row, column + rank * Tile::kCols);
  }
}

// Operands in shared memory: K-major [rows][128 bytes of k], or [rows/64][64 of k][64 rows] of bf16.
template <bool kMajor>
__device__ uint64_t descriptor(const uint8_t* operand) {
  return matrix_descriptor(operand, kMajor ? 16 : 64 * kDepth);
}
template <bool kMajor>
inline constexpr int kStep = kMajor ? 32 : 16 * kDepth;  // bytes to what the next wgmma multiplies

// One stage of one operand: all kRows rows, or, of a pair's shared operand, this block's half, for both.
template <bool kMajor, int kRows>
__device__ void load(uint8_t* to, const TensorMap& map, int row, int k, uint64_t* full, bool half) {
  const int rows = half ? kRows / 2 : kRows, first = half ? cluster_ctarank() * rows : 0;
  const auto box = [&](int i, int x, int y) {
    if (half) cp_async_bulk_tensor_2d_load_multicast(to + i * kDepth, map, x, y, full, 3);
    else cp_async_bulk_tensor_2d_load(to + i * kDepth, map, x, y, full);
  };
  if constexpr (kMajor) box(first, k, row + first);
  else
    for (int i = first; i < first + rows; i += 64) box(i, row + i, k);
}
template <bool kMajor>
int box_rows(int rows) { return kMajor ? rows : 64; }

// sums = (sums +) a stage of a slab's 64 rows by all columns; under way when this returns.
template <class A, class B, bool kMajorA, bool kMajorB, int kSums>
__device__ void multiply(float (&sums)[kSums], const uint8_t* a, const uint8_t* b, bool accumulate) {
  const uint64_t of_a = descriptor<kMajorA>(a), of_b = descriptor<kMajorB>(b);
  wgmma_fence();
#pragma unroll
  for (int i = 0; i < kDepth / 32; ++i)
    wgmma<A, B, kMajorA, kMajorB>(sums, advance(of_a, i * kStep<kMajorA>), advance(of_b, i * kStep<kMajorB>),
                                  accumulate || i > 0);
  wgmma_commit_group();
}

// a and b are [rows,K] where they are K-major, else [K,rows]; `blocks` of kDepth bytes cover K.
template <class A, class B, bool kMajorA, bool kMajorB, class Tile>
__global__ void __launch_bounds__(kThreads, 1)
    kernel(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, Output y, Plan plan, int blocks) {
#ifdef NEMOTRON_H_SM90A
  Shared<Tile>& s = *static_cast<Shared<Tile>*>(dynamic_smem());
  Turn<Tile::kStages> turn;

  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      mbarrier_init(&s.full[i], 1);
      mbarrier_init(&s.empty[i], kConsumers * 4 * plan.cluster);
    }
    fence_mbarrier_init();
  }
  barrier_cluster_arrive();
  barrier_cluster_wait();  // the barriers of both blocks are there
  wait_for_previous_launch();

  if (threadIdx.x < 128) {
    setmaxnreg_dec<40>();
    if (threadIdx.x == 0) {
      const bool pair = plan.cluster == 2;
      for_tiles<Tile>(plan, [&](int row, int column) {
        for (int block = 0; block < blocks; ++block, turn.next()) {
          auto& [to_a, to_b] = s.stages[turn.stage];
          uint64_t* const full = &s.full[turn.stage];
          const int k = block * (kDepth / sizeof(A));
          mbarrier_wait(&s.empty[turn.stage], turn.parity ^ 1);  // at once in the first round
          mbarrier_arrive_expect_tx(full, sizeof(to_a) + sizeof(to_b));
          load<kMajorA, Tile::kRows>(to_a, a, row, k, full, pair && !Tile::kSharesB);
          load<kMajorB, Tile::kCols>(to_b, b, column, k, full, pair && Tile::kSharesB);
        }
      });
    }
    __syncwarp();
  } else {
    setmaxnreg_inc<232>();
    const int first = (threadIdx.x / 128 - 1) * Tile::kSlabs * 64;  // of the rows of this warpgroup
    const int warp = threadIdx.x / kWarp % 4, lane = threadIdx.x % kWarp;
    // Once a warp, to every block that wrote the stage.
    const auto release = [&](int stage) {
      if (lane < plan.cluster) mbarrier_arrive_cluster(mapa(&s.empty[stage], lane));
    };
    Amax<4> amax(y);

    for_tiles<Tile>(plan, [&](int row, int column) {
      float sums[Tile::kSlabs][Tile::kCols / 2];
      if constexpr (Tile::kPromoted) {
#pragma unroll
        for (auto& slab : sums)
#pragma unroll
          for (float& sum : slab) sum = 0;
        for (int block = 0; block < blocks; ++block, turn.next()) {
          const auto& stage = s.stages[turn.stage];
          mbarrier_wait(&s.full[turn.stage], turn.parity);
#pragma unroll
          for (int slab = 0; slab < Tile::kSlabs; ++slab) {
            float products[Tile::kCols / 2];
            multiply<A, B, kMajorA, kMajorB>(products, stage.a + (first + slab * 64) * kDepth, stage.b, false);
            wgmma_wait_group<0>(products);
            if (slab == Tile::kSlabs - 1) release(turn.stage);
#pragma unroll
            for (int i = 0; i < Tile::kCols / 2; ++i) sums[slab][i] += products[i];
          }
        }
      } else {
        int last = 0;
        for (int block = 0; block < blocks; ++block, turn.next()) {
          const auto& stage = s.stages[turn.stage];
          mbarrier_wait(&s.full[turn.stage], turn.parity);
          multiply<A, B, kMajorA, kMajorB>(sums[0], stage.a + first * kDepth, stage.b, block > 0);
          wgmma_wait_group<1>();  // the stage before has been read
          if (block > 0) release(last);
          last = turn.stage;
        }
        wgmma_wait_group<0>(sums[0]);
        release(last);
      }
#pragma unroll
      for (int slab = 0; slab < Tile::kSlabs; ++slab)
        store(y, row + first + slab * 64 + warp * 16, column, sums[slab], amax);
    });
    amax.finish();
  }

  barrier_cluster_arrive();
  barrier_cluster_wait();  // the other block may still arrive at barriers here
#endif
}

template <class A, class B, bool kMajorA, bool kMajorB, class Tile>
void run(const Product& p) {
  const int processors = current().processors;
  const Plan plan = hopper::plan<Tile>(p.y.M, p.y.N, processors);
  const int rows_of_a = Tile::kSharesB ? Tile::kRows : Tile::kRows / plan.cluster;
  const int rows_of_b = Tile::kSharesB ? Tile::kCols / plan.cluster : Tile::kCols;
  launch(kernel<A, B, kMajorA, kMajorB, Tile>,
         {.grid = static_cast<unsigned>(plan.blocks(processors)), .block = kThreads, .smem = sizeof(Shared<Tile>),
          .cluster = static_cast<unsigned>(plan.cluster)},
         tensor_map(p.a, box_rows<kMajorA>(rows_of_a)), tensor_map(p.b, box_rows<kMajorB>(rows_of_b)), p.y, plan,
         static_cast<int>(ceil_div(p.K(), kDepth / sizeof(A))));
}

}  // namespace nemotron_h::cuda::gemm::hopper
