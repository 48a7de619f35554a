// TMA, mbarriers, wgmma and clusters: one small kernel each.
#include "check.h"
#include "cuda/wgmma.cuh"

using namespace nemotron_h;
using namespace nemotron_h::cuda;
using check::Array;

namespace {

// c[64][128] = A * B over k = 128, for each way bf16 wgmma takes its operands:
// A is a[64][k] when kMajorA, else at[k][64]; B is b[128][k] when kMajorB, else bt[k][128].
enum class From { shared, registers };

struct Operands {
  uint16_t a[2][64 * 64], b[2][128 * 64];  // two k blocks of 64
  uint64_t full;
};

template <bool kMajorA, bool kMajorB, From kFrom>
__global__ void __launch_bounds__(128)
    wgmma_kernel(float* c, const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
                 const uint16_t* a) {
  Operands& s = *static_cast<Operands*>(dynamic_smem());
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect_tx(&s.full, sizeof s.a + sizeof s.b);
    for (int i = 0; i < 2; i++) {
      cp_async_bulk_tensor_2d_load(s.a[i], a_map, kMajorA ? i * 64 : 0, kMajorA ? 0 : i * 64, &s.full);
      if (kMajorB) cp_async_bulk_tensor_2d_load(s.b[i], b_map, i * 64, 0, &s.full);
      for (int n = 0; n < 2 && !kMajorB; n++)
        cp_async_bulk_tensor_2d_load(s.b[i] + n * 64 * 64, b_map, n * 64, i * 64, &s.full);
    }
  }
  __syncthreads();
  mbarrier_wait(&s.full, 0);
  float acc[64];
  uint32_t fa[8][4];
  for (int k = 0; k < 8; k++)
    for (int i = 0; i < 4 && kFrom == From::registers; i++)
      fa[k][i] = *reinterpret_cast<const uint32_t*>(
          &a[(warp * 16 + lane / 4 + i % 2 * 8) * 128 + k * 16 + i / 2 * 8 + lane % 4 * 2]);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < 8; k++) {  // 16 of k: 32 bytes along a K-major row, 16 rows of 128 bytes when MN-major
    const uint64_t da = advance(matrix_descriptor(s.a[k / 4], 64 * 128), k % 4 * (kMajorA ? 32 : 2048));
    const uint64_t db = advance(matrix_descriptor(s.b[k / 4], 64 * 128), k % 4 * (kMajorB ? 32 : 2048));
    if constexpr (kFrom == From::registers) wgmma<kMajorB>(acc, fa[k], db, k > 0);
    else wgmma<bf16, bf16, kMajorA, kMajorB>(acc, da, db, k > 0);
  }
  wgmma_commit_group();
  wgmma_wait_group<0>(acc);
  for (int i = 0; i < 64; i++)
    c[(warp * 16 + lane / 4 + i / 2 % 2 * 8) * 128 + i / 4 * 8 + lane % 4 * 2 + i % 2] = acc[i];
}

// A cluster of 2: block 0 multicasts each [64][64] tile to both, which add their own sum of it to
// out[rank]. Block 0 may load the next only when both have read: a barrier with remote arrivals.
struct Multicast {
  uint16_t tile[64 * 64];
  uint64_t full, empty;
};
__global__ void multicast_kernel(float* out, const __grid_constant__ TensorMap map, int tiles) {
  Multicast& s = *static_cast<Multicast*>(dynamic_smem());
  const unsigned rank = cluster_ctarank();
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    mbarrier_init(&s.empty, 2);
    fence_mbarrier_init();
  }
  barrier_cluster_arrive();
  barrier_cluster_wait();
  for (int i = 0; i < tiles; i++) {
    if (threadIdx.x == 0) {
      mbarrier_arrive_expect_tx(&s.full, sizeof s.tile);
      if (rank == 0) {
        mbarrier_wait(&s.empty, i % 2 ^ 1);
        cp_async_bulk_tensor_2d_load_multicast(s.tile, map, 0, i * 64, &s.full, 3);
      }
    }
    mbarrier_wait(&s.full, i % 2);
    float sum = 0;
    for (int j = threadIdx.x; j < 64 * 64; j += blockDim.x) sum += __uint_as_float(uint32_t(s.tile[j]) << 16);
    atomicAdd(&out[rank], sum);
    __syncthreads();
    if (threadIdx.x == 0) mbarrier_arrive_cluster(mapa(&s.empty, 0));
  }
  barrier_cluster_arrive();
  barrier_cluster_wait();  // nobody leaves while the other may still arrive here
}

// A plain bulk copy, doubled.
__global__ void bulk_copy_kernel(float* out, const float* in, int count) {
  auto& buffer = shared<float[64], struct Buffer>();
  auto& full = shared<uint64_t, struct Full>();
  if (threadIdx.x == 0) {
    mbarrier_init(&full, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect_tx(&full, sizeof buffer);
    cp_async_bulk_load(buffer, in, sizeof buffer, &full);
  }
  __syncthreads();
  mbarrier_wait(&full, 0);
  for (int i = threadIdx.x; i < count; i += blockDim.x) out[i] = 2 * buffer[i % 64];
}

// Stores a tile by TMA, then reads it back from global memory.
__global__ void store_kernel(float* sum, const __grid_constant__ TensorMap map, const float* stored) {
  float* const tile = static_cast<float*>(dynamic_smem());  // [8][32], swizzled
  for (int i = threadIdx.x; i < 256; i += blockDim.x) tile[i] = 1;
  fence_proxy_async();
  __syncthreads();
  if (threadIdx.x != 0) return;
  cp_async_bulk_tensor_2d_store(map, 0, 0, tile);
  cp_async_bulk_commit_group();
  cp_async_bulk_wait_group<0>();
  float s = 0;
  for (int i = 0; i < 256; i++) s += stored[i];
  *sum = s;
}

// 64 x 128 products of k = 32 blocks, in fp8: one accumulator for all, or one for each that is then added up.
__global__ void __launch_bounds__(128)
    sums_kernel(float* c, const uint8_t* a, const uint8_t* b, int blocks, bool promoted) {
  struct Tiles {
    alignas(1024) uint8_t a[64 * 128], b[128 * 128];  // 128 of k: four instructions
  };
  Tiles& s = *static_cast<Tiles*>(dynamic_smem());
  float acc[64], sum[64] = {};
  for (int block = 0; block < blocks; block++) {
    for (int i = threadIdx.x; i < (64 + 128) * 128; i += 128) {
      const int row = i / 128, k = i % 128;
      uint8_t* const to = row < 64 ? s.a + row * 128 : s.b + (row - 64) * 128;
      const uint8_t* const from = row < 64 ? a + row * blocks * 128 : b + (row - 64) * blocks * 128;
      to[(k / 16 ^ row % 8) * 16 + k % 16] = from[block * 128 + k];
    }
    fence_proxy_async();
    __syncthreads();
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++)
      wgmma<e4m3, e4m3>(acc, advance(matrix_descriptor(s.a), k * 32), advance(matrix_descriptor(s.b), k * 32),
                                   k > 0 || (block > 0 && !promoted));
    wgmma_commit_group();
    wgmma_wait_group<0>(acc);
    for (int i = 0; i < 64; i++) sum[i] = promoted ? sum[i] + acc[i] : acc[i];
    __syncthreads();
  }
  for (int i = 0; i < 64; i++) c[i * 128 + threadIdx.x] = sum[i];
}

template <bool kMajorA, bool kMajorB, From kFrom>
std::string check_wgmma() {
  const auto a = check::integers<bf16>(64 * 128, 1, 4), b = check::integers<bf16>(128 * 128, 2, 4);
  auto at = a, bt = b;
  for (int i = 0; i < 64 * 128; i++) at[i % 128 * 64 + i / 128] = a[i];
  for (int i = 0; i < 128 * 128; i++) bt[i % 128 * 128 + i / 128] = b[i];
  Array<bf16> da(a), db(b), dat(at), dbt(bt);
  Array<float> c(64 * 128);
  check::launch(wgmma_kernel<kMajorA, kMajorB, kFrom>, {.block = 128, .smem = sizeof(Operands)}, static_cast<float*>(c),
                kMajorA ? check::tensor_map<bf16>(da, 64, 128, 64, 64) : check::tensor_map<bf16>(dat, 128, 64, 64, 64),
                kMajorB ? check::tensor_map<bf16>(db, 128, 128, 128, 64) : check::tensor_map<bf16>(dbt, 128, 128, 64, 64),
                reinterpret_cast<const uint16_t*>(static_cast<bf16*>(da)));
  const auto want = check::product(a, b, 64, 128, 128);
  return check::compare(c.values(), [&](size_t i) { return want[i]; });
}

}  // namespace

CHECK(wgmma_k_k) { return check_wgmma<true, true, From::shared>(); }
CHECK(wgmma_k_mn) { return check_wgmma<true, false, From::shared>(); }
CHECK(wgmma_mn_k) { return check_wgmma<false, true, From::shared>(); }
CHECK(wgmma_mn_mn) { return check_wgmma<false, false, From::shared>(); }
CHECK(wgmma_registers_k) { return check_wgmma<true, true, From::registers>(); }
CHECK(wgmma_registers_mn) { return check_wgmma<true, false, From::registers>(); }

CHECK(multicast) {
  const auto x = check::integers<bf16>(5 * 64 * 64, 1, 4);
  Array<bf16> dx(x);
  Array<float> out(std::vector<float>(2, 0.0f));
  check::launch(multicast_kernel, {.grid = 2, .block = 64, .smem = sizeof(Multicast), .cluster = 2},
                static_cast<float*>(out), check::tensor_map<bf16>(dx, 5 * 64, 64, 64, 64), 5);
  float want = 0;
  for (float v : check::widened(x)) want += v;
  return check::compare(out.values(), [&](size_t) { return want; });
}

CHECK(bulk_copy) {
  const auto in = check::integers<float>(64, 1, 50);
  Array<float> from(in), out(64);
  check::launch(bulk_copy_kernel, {.block = 32}, static_cast<float*>(out), static_cast<const float*>(from), 64);
  return check::compare(out.values(), [&](size_t i) { return 2 * in[i]; });
}

CHECK(tma_store) {
  Array<float> stored(256), sum(1);
  check::launch(store_kernel, {.block = 64, .smem = 1024}, static_cast<float*>(sum),
                check::tensor_map<float>(stored, 8, 32, 8, 32), static_cast<const float*>(stored));
  return check::compare(sum.values(), [](size_t) { return 256; });
}

// A product of 2^15 first, 2^-3 everywhere else: 14 bits lose nearly all the small ones, unless sums are promoted.
CHECK(fp8_accumulation) {
  constexpr int kBlocks = 3, kK = kBlocks * 128;
  std::vector<e4m3> a(64 * kK, from_float<e4m3>(0.25f)), b(128 * kK, from_float<e4m3>(0.5f));
  for (int m = 0; m < 64; m++) a[m * kK] = from_float<e4m3>(256);
  for (int n = 0; n < 128; n++) b[n * kK] = from_float<e4m3>(128);
  Array<e4m3> da(a), db(b);
  const auto run = [&](bool promoted) {
    Array<float> c(64 * 128);
    check::launch(sums_kernel, {.block = 128, .smem = (64 + 128) * 128}, static_cast<float*>(c),
                  reinterpret_cast<const uint8_t*>(static_cast<e4m3*>(da)),
                  reinterpret_cast<const uint8_t*>(static_cast<e4m3*>(db)), kBlocks, promoted);
    return c.values();
  };
  const auto one = check::compare(run(false), [](size_t) { return 32768; });
  return one + check::compare(run(true), [](size_t) { return 32768 + 256 * 0.125f; });
}
