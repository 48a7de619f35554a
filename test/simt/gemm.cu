// c[m][n] = sum over k of a[m][k] * b[n][k], fp8 to f32: a warp-specialised, persistent kernel with TMA and wgmma.
//
// A block takes tiles of 128 x 128 by a ticket. One warpgroup produces: a thread keeps kStages loads of 128 bytes of k
// in flight. Two warpgroups consume, 64 rows each. Each stage has two barriers: `full` (the bytes have landed) and
// `empty` (all consumer warps have finished reading). k must be a multiple of 16, n of 4.
#include "check.h"
#include "cuda/wgmma.cuh"

using namespace nemotron_h;
using namespace nemotron_h::cuda;
using check::Array;

namespace {

constexpr int kM = 128, kN = 128, kK = 128, kStages = 4;
constexpr int kConsumers = 2, kConsumerWarps = kConsumers * 4, kThreads = (1 + kConsumers) * 128;

struct Stage {
  uint8_t a[kM * kK], b[kN * kK];
};
struct Shared {
  Stage stage[kStages];
  float c[kConsumers][64 * 32];  // per consumer 32 columns: 128-byte rows, swizzled
  uint64_t full[kStages], empty[kStages];
  int tile;
};

__global__ void __launch_bounds__(kThreads, 1)
    gemm_kernel(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
                const __grid_constant__ TensorMap c_map, unsigned* ticket, int m, int n, int k) {
  Shared& s = *static_cast<Shared*>(dynamic_smem());
  const int across = ceil_div(n, kN), tiles = across * ceil_div(m, kM), blocks = ceil_div(k, kK);

  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; i++) {
      mbarrier_init(&s.full[i], 1);
      mbarrier_init(&s.empty[i], kConsumerWarps);
    }
    fence_mbarrier_init();
  }

  int step = 0;  // k blocks so far, of all tiles
  for (;;) {
    if (threadIdx.x == 0) s.tile = atomicAdd(ticket, 1u);
    __syncthreads();
    const int tile = s.tile;
    __syncthreads();  // all have read: thread 0 may go on to the next
    if (tile >= tiles) break;
    const int row0 = tile / across * kM, column0 = tile % across * kN;

    if (threadIdx.x < 128) {
      if (threadIdx.x == 0) {
        for (int i = step; i < step + blocks; i++) {
          const int slot = i % kStages, parity = i / kStages % 2;
          mbarrier_wait(&s.empty[slot], parity ^ 1);  // the first round passes at once
          mbarrier_arrive_expect_tx(&s.full[slot], sizeof(Stage));
          cp_async_bulk_tensor_2d_load(s.stage[slot].a, a_map, (i - step) * kK, row0, &s.full[slot]);
          cp_async_bulk_tensor_2d_load(s.stage[slot].b, b_map, (i - step) * kK, column0, &s.full[slot]);
        }
      }
    } else {
      const int consumer = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
      float acc[64];
      for (int i = step; i < step + blocks; i++) {
        const int slot = i % kStages, parity = i / kStages % 2;
        mbarrier_wait(&s.full[slot], parity);
        const uint64_t a = matrix_descriptor(s.stage[slot].a + consumer * 64 * kK);
        const uint64_t b = matrix_descriptor(s.stage[slot].b);
        wgmma_fence();
#pragma unroll
        for (int kk = 0; kk < kK; kk += 32)
          wgmma<e4m3, e4m3>(acc, advance(a, kk), advance(b, kk), i > step || kk > 0);
        wgmma_commit_group();
        wgmma_wait_group<1>();  // the products of the previous stage are done
        if (i > step && lane == 0) mbarrier_arrive(&s.empty[(i - 1) % kStages]);
      }
      wgmma_wait_group<0>(acc);
      if (lane == 0) mbarrier_arrive(&s.empty[(step + blocks - 1) % kStages]);

      for (int panel = 0; panel < 4; panel++) {
        if (threadIdx.x % 128 == 0) cp_async_bulk_wait_group_read<0>();  // the last panel's store has read
        bar_sync(1 + consumer, 128);
#pragma unroll
        for (int i = 0; i < 16; i++) {
          const int row = warp * 16 + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
          s.c[consumer][row * 32 + (column / 4 ^ row % 8) * 4 + column % 4] = acc[panel * 16 + i];
        }
        fence_proxy_async();
        bar_sync(1 + consumer, 128);
        if (threadIdx.x % 128 == 0) {
          cp_async_bulk_tensor_2d_store(c_map, column0 + panel * 32, row0 + consumer * 64, s.c[consumer]);
          cp_async_bulk_commit_group();
        }
      }
    }
    step += blocks;
  }
  if (threadIdx.x >= 128) cp_async_bulk_wait_group_read<0>();  // shared memory must outlive the reads
}

std::string gemm(int m, int n, int k, int grid) {
  const auto a = check::integers<e4m3>(size_t(m) * k, 6, 2), b = check::integers<e4m3>(size_t(n) * k, 7, 2);
  Array<e4m3> da(a), db(b);
  Array<float> c(size_t(m) * n);
  Array<unsigned> ticket(std::vector<unsigned>{0});
  check::launch(gemm_kernel, {.grid = grid, .block = kThreads, .smem = sizeof(Shared)},
                check::tensor_map<e4m3>(da, m, k, kM, kK), check::tensor_map<e4m3>(db, n, k, kN, kK),
                check::tensor_map<float>(c, m, n, 64, 32), static_cast<unsigned*>(ticket), m, n, k);
  const auto want = check::product(a, b, m, n, k);
  return check::compare(c.values(), [&](size_t i) { return want[i]; });
}

}  // namespace

CHECK(gemm_small) { return gemm(3, 8, 16, 1); }
CHECK(gemm_tiles) { return gemm(131, 136, 272, 2); }
CHECK(gemm_long) { return gemm(128, 128, 17 * 128, 1); }
