// Warps and blocks: shuffles, votes, barriers, mma.sync, cp.async.
#include "check.h"

using namespace nemotron_h;
using namespace nemotron_h::cuda;
using check::Array;

namespace {

// out: 8 results per thread
__global__ void warp_kernel(int* out) {
  const int lane = threadIdx.x % 32;
  int* o = out + threadIdx.x * 8;
  o[0] = __shfl_sync(~0u, lane, 5);
  o[1] = __shfl_up_sync(~0u, lane, 1);
  o[2] = __shfl_down_sync(~0u, lane, 1, 8);
  o[3] = int(__ballot_sync(~0u, lane % 3 == 0));
  o[4] = __any_sync(~0u, lane == 7) + 2 * __all_sync(~0u, lane < 31);
  o[5] = __reduce_add_sync(~0u, unsigned(lane));
  o[6] = elect_sync();
  if (lane < 16) o[7] = __shfl_xor_sync(0x0000ffffu, lane, 3);  // the two halves diverge
  else o[7] = __reduce_max_sync(0xffff0000u, lane);
}

__global__ void votes_kernel(int* out) {
  const int t = threadIdx.x;
  for (int round = 0; round < 3; round++) {
    const int any = __syncthreads_or(t == 40 + round), none = __syncthreads_or(t > 1000);
    const int all = __syncthreads_and(t < 70), count = __syncthreads_count(t % 7 == round);
    if (t == round) out[round] = any * 1000 + none * 500 + all * 100 + count;
  }
}

// Warp 0 hands numbers to warp 1 through one slot and two named barriers.
__global__ void hand_over_kernel(int* out, int rounds) {
  auto& slot = shared<int[32], struct Slot>();
  const int lane = threadIdx.x % 32;
  for (int i = 0; i < rounds; i++) {
    if (threadIdx.x < 32) {
      if (i > 0) bar_sync(2, 64);
      slot[lane] = i * 32 + lane;
      bar_arrive(1, 64);
    } else {
      bar_sync(1, 64);
      out[i * 32 + lane] = slot[31 - lane];
      if (i + 1 < rounds) bar_arrive(2, 64);
    }
  }
}

// Pairs of 8-byte numbers on the stack, which g++ moves as 16 bytes wherever they lie.
struct Pair {
  int64_t a, b;
};
struct Local {
  int64_t number;
  Pair first;
  int64_t next;
  Pair second;
};
__attribute__((noinline)) int64_t sum(const Local& l) {
  return l.number + l.first.a + 2 * l.first.b + l.next + 3 * l.second.a + 4 * l.second.b;
}
__attribute__((noinline)) int64_t swapped(const Local& l) {
  const Local other{l.next, l.second, l.number, l.first};
  return sum(other);
}
__global__ void stack_kernel(int* out) {
  const int t = threadIdx.x;
  const Local local{t, {1, 2}, 3, {4, 5}};
  out[t] = static_cast<int>(swapped(local));
}

// Sums of 100 numbers by the warps, then of the warps' by thread 0.
__global__ void sum_kernel(int* out, const int* in, int n) {
  auto& sums = shared<int[8], struct Sums>();
  int s = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) s += in[i];
  s = __reduce_add_sync(~0u, s);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = s;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (unsigned w = 1; w < blockDim.x / 32; w++) s += sums[w];
    *out = s;
  }
}

// A count in shared memory by atomics.
__global__ void count_kernel(int* out, const int* in, int n) {
  auto& count = shared<int, struct Count>();
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x)
    if (in[i] > 0) atomicAdd(&count, 1);
  __syncthreads();
  if (threadIdx.x == 0) *out = count;
}

// c[16][8] = a[32][16]' * b[8][32]': a by ldmatrix.trans (k is the row), b by hand; and fp8 of both kinds.
__global__ void mma_kernel(float* c, const uint16_t* a, const uint16_t* b, float* c8, const uint8_t* a8,
                           const uint8_t* b8) {
  auto& tile = shared<uint16_t[32][24], struct Tile>();
  const int lane = threadIdx.x;
  for (int i = lane; i < 32 * 16; i += 32) tile[i / 16][i % 16] = a[i];
  __syncwarp();
  float d[4] = {}, d8[4] = {};
  for (int k = 0; k < 32; k += 16) {
    uint32_t fa[4], fb[2];
    ldmatrix_x4_trans(fa, &tile[k + lane / 16 * 8 + lane % 8][lane / 8 % 2 * 8]);
    for (int i = 0; i < 2; i++)
      fb[i] = *reinterpret_cast<const uint32_t*>(&b[lane / 4 * 32 + k + i * 8 + lane % 4 * 2]);
    mma_m16n8k16_bf16(d, fa, fb);
  }
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; i++)
    fa[i] = *reinterpret_cast<const uint32_t*>(&a8[(lane / 4 + i % 2 * 8) * 32 + i / 2 * 16 + lane % 4 * 4]);
  for (int i = 0; i < 2; i++)
    fb[i] = *reinterpret_cast<const uint32_t*>(&b8[lane / 4 * 32 + i * 16 + lane % 4 * 4]);
  mma_m16n8k32<e4m3, e5m2>(d8, fa, fb);
  for (int i = 0; i < 4; i++) {
    const int at = (lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2;
    c[at] = d[i], c8[at] = d8[i];
  }
}

// c[16][8] += a[16][k] * b[8][k]', both copied in slices of 16 through kStages buffers; what lies beyond k is zero.
__global__ void pipeline_kernel(float* c, const uint16_t* a, const uint16_t* b, int k) {
  constexpr int kStages = 3;
  auto& slices = shared<uint16_t[kStages][24][24], struct Slices>();  // rows 0 to 15: a, 16 to 23: b
  const int t = threadIdx.x, row = t / 2, column = t % 2 * 8, count = static_cast<int>(ceil_div(k, 16));
  const auto fetch = [&](int i) {
    const int from = i * 16 + column;
    const uint16_t* source = row < 16 ? a + row * k : b + (row - 16) * k;
    if (t < 48 && i < count) cp_async_16(&slices[i % kStages][row][column], source + (from < k ? from : 0), from < k);
    cp_async_commit_group();
  };
  for (int i = 0; i < kStages - 1; i++) fetch(i);
  float d[4] = {};
  for (int i = 0; i < count; i++) {
    cp_async_wait_group<kStages - 2>();
    __syncthreads();
    fetch(i + kStages - 1);
    if (t < 32) {
      uint32_t fa[4], fb[2];
      ldmatrix_x4(fa, &slices[i % kStages][t % 16][t / 16 * 8]);
      ldmatrix_x2(fb, &slices[i % kStages][16 + t % 8][t / 8 % 2 * 8]);
      mma_m16n8k16_bf16(d, fa, fb);
    }
  }
  cp_async_wait_all();
  for (int i = 0; i < 4 && t < 32; i++) c[(t / 4 + i / 2 * 8) * 8 + t % 4 * 2 + i % 2] = d[i];
}

template <class T>
auto* bits_of(const Array<T>& d) {
  return reinterpret_cast<std::conditional_t<sizeof(T) == 2, uint16_t, uint8_t>*>(static_cast<T*>(d));
}

}  // namespace

CHECK(warps) {
  Array<int> result(64 * 8);
  check::launch(warp_kernel, {.block = 64}, static_cast<int*>(result));
  auto out = result.values();
  int elected = 0;
  for (int t = 0; t < 64; t++) elected += std::exchange(out[t * 8 + 6], 0);
  if (elected != 2) return "elect.sync elected " + std::to_string(elected) + " lanes of 2 warps";
  return check::compare(out, [&](size_t i) -> float {
    const int lane = i / 8 % 32;
    switch (i % 8) {
      case 0: return 5;
      case 1: return std::max(lane - 1, 0);
      case 2: return lane % 8 == 7 ? lane : lane + 1;
      case 3: return 0x49249249;
      case 4: return 1;
      case 5: return 496;
      case 6: return 0;
      default: return lane < 16 ? lane ^ 3 : 31;
    }
  });
}

CHECK(votes) {
  Array<int> out(3);
  check::launch(votes_kernel, {.block = 70}, static_cast<int*>(out));
  return check::compare(out.values(), [](size_t) { return 1000 + 100 + 10; });
}

CHECK(named_barriers) {
  Array<int> out(32 * 9);
  check::launch(hand_over_kernel, {.block = 64}, static_cast<int*>(out), 9);
  return check::compare(out.values(), [](size_t i) { return i / 32 * 32 + 31 - i % 32; });
}

CHECK(block_sum) {
  const auto in = check::integers<float>(1000, 1, 50);
  Array<int> out(1), numbers(std::vector<int>(in.begin(), in.end()));
  check::launch(sum_kernel, {.block = 256}, static_cast<int*>(out), static_cast<int*>(numbers), 1000);
  float sum = 0;
  for (float v : in) sum += v;
  return check::compare(out.values(), [&](size_t) { return sum; });
}

CHECK(shared_count) {
  const auto in = check::integers<float>(1000, 1, 50);
  Array<int> out(1), numbers(std::vector<int>(in.begin(), in.end()));
  check::launch(count_kernel, {.block = 96}, static_cast<int*>(out), static_cast<int*>(numbers), 1000);
  float count = 0;
  for (float v : in) count += v > 0;
  return check::compare(out.values(), [&](size_t) { return count; });
}

CHECK(stack) {
  Array<int> out(64);
  check::launch(stack_kernel, {.block = 64}, static_cast<int*>(out));
  return check::compare(out.values(), [](size_t i) { return 3 + 4 + 2 * 5 + i + 3 * 1 + 4 * 2; });
}

CHECK(mma) {
  const auto at = check::integers<bf16>(32 * 16, 1, 4), b = check::integers<bf16>(8 * 32, 2, 4);
  auto a = at;
  for (int i = 0; i < 16 * 32; i++) a[i] = at[i % 32 * 16 + i / 32];
  const auto a8 = check::integers<e4m3>(16 * 32, 3, 4);
  const auto b8 = check::integers<e5m2>(8 * 32, 4, 4);
  Array<float> c(128), c8(128);
  Array<bf16> da(at), db(b);
  Array<e4m3> da8(a8);
  Array<e5m2> db8(b8);
  check::launch(mma_kernel, {.block = 32}, static_cast<float*>(c), bits_of(da), bits_of(db), static_cast<float*>(c8),
                bits_of(da8), bits_of(db8));
  const auto want = check::product(a, b, 16, 8, 32), want8 = check::product(a8, b8, 16, 8, 32);
  return check::compare(c.values(), [&](size_t i) { return want[i]; }) +
         check::compare(c8.values(), [&](size_t i) { return want8[i]; });
}

CHECK(pipeline) {
  for (int k : {8, 16, 40, 16 * 17}) {
    const auto a = check::integers<bf16>(16 * k, 1, 4), b = check::integers<bf16>(8 * k, 2, 4);
    Array<float> c(128);
    Array<bf16> da(a), db(b);
    check::launch(pipeline_kernel, {.block = 64}, static_cast<float*>(c), bits_of(da), bits_of(db), k);
    const auto want = check::product(a, b, 16, 8, k);
    if (auto wrong = check::compare(c.values(), [&](size_t i) { return want[i]; }); !wrong.empty()) return wrong;
  }
  return "";
}
