// Blocks that wait for each other through global memory: a ticket, a decoupled look-back, a grid barrier.
#include "check.h"

using namespace nemotron_h;
using namespace nemotron_h::cuda;
using check::Array;

namespace {

// The last block to finish adds up the others' sums, whichever it is.
__global__ void ticket_kernel(float* sum, float* partial, unsigned* ticket, const float* x, int n) {
  auto& last = shared<bool, struct Last>();
  float s = 0;
  for (int i = blockIdx.x * 32 + threadIdx.x; i < n; i += gridDim.x * 32) s += x[i];
  s = __reduce_add_sync(~0u, s);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = s;
    __threadfence();
    last = atomicAdd(ticket, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last || threadIdx.x != 0) return;
  __threadfence();
  s = 0;
  for (unsigned i = 0; i < gridDim.x; i++) s += partial[i];
  *sum = s;
}

// Prefix sums of blocks of 32, each waiting for the one before: in the order of their tickets.
__global__ void scan_kernel(float* y, float* prefix, uint32_t* ready, unsigned* ticket, const float* x) {
  auto& block = shared<unsigned, struct Block>();
  auto& before = shared<float, struct Before>();
  if (threadIdx.x == 0) block = atomicAdd(ticket, 1u);
  __syncthreads();
  const unsigned i = block * 32 + threadIdx.x;
  float v = x[i];
  for (int by = 1; by < 32; by *= 2) {
    const float other = __shfl_up_sync(~0u, v, by);
    if (threadIdx.x >= unsigned(by)) v += other;
  }
  if (threadIdx.x == 31) {
    before = 0;
    if (block > 0) {
      while (ld_acquire(&ready[block - 1]) == 0) {}
      before = prefix[block - 1];
    }
    prefix[block] = before + v;
    st_release(&ready[block], 1);
  }
  __syncwarp();
  y[i] = before + v;
}

// Each round every block adds its neighbour's number of the last round to its own: all must be there at once.
__global__ void rounds_kernel(float* numbers, unsigned* arrived, int rounds) {
  const unsigned blocks = gridDim.x, next = (blockIdx.x + 1) % blocks;
  for (int r = 0; r < rounds; r++) {
    const float* const from = numbers + r % 2 * blocks;
    float* const to = numbers + (r + 1) % 2 * blocks;
    if (threadIdx.x == 0) {
      to[blockIdx.x] = from[blockIdx.x] + from[next];
      __threadfence();
      atomicAdd(arrived, 1u);
      while (*static_cast<volatile unsigned*>(arrived) < (r + 1) * blocks) {}
      __threadfence();
    }
    __syncthreads();
  }
}

}  // namespace

CHECK(ticket) {
  const auto x = check::integers<float>(1000, 3, 50);
  Array<float> dx(x), sum(1), partial(20);
  Array<unsigned> ticket(std::vector<unsigned>{0});
  check::launch(ticket_kernel, {.grid = 20, .block = 32}, static_cast<float*>(sum), static_cast<float*>(partial),
                static_cast<unsigned*>(ticket), static_cast<const float*>(dx), 1000);
  float want = 0;
  for (float v : x) want += v;
  return check::compare(sum.values(), [&](size_t) { return want; });
}

CHECK(look_back) {
  constexpr int kBlocks = 40;
  const auto x = check::integers<float>(kBlocks * 32, 3, 50);
  Array<float> dx(x), y(kBlocks * 32), prefix(kBlocks);
  Array<uint32_t> ready(std::vector<uint32_t>(kBlocks, 0));
  Array<unsigned> ticket(std::vector<unsigned>{0});
  check::launch(scan_kernel, {.grid = kBlocks, .block = 32}, static_cast<float*>(y), static_cast<float*>(prefix),
                static_cast<uint32_t*>(ready), static_cast<unsigned*>(ticket), static_cast<const float*>(dx));
  auto want = x;
  for (size_t i = 1; i < want.size(); i++) want[i] += want[i - 1];
  return check::compare(y.values(), [&](size_t i) { return want[i]; });
}

CHECK(grid_barrier) {
  constexpr unsigned kBlocks = 6;
  Array<float> numbers(std::vector<float>(2 * kBlocks, 1));
  Array<unsigned> arrived(std::vector<unsigned>{0});
  check::launch(rounds_kernel, {.grid = kBlocks, .block = 64}, static_cast<float*>(numbers),
                static_cast<unsigned*>(arrived), 4);
  return check::compare(numbers.values(), [](size_t i) { return i < kBlocks ? 16 : 8; });
}
