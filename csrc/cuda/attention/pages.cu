// Checks of page tables, in one block: it tells what the CPU backend would have found first.
#include "cuda/attention/pages.cuh"
#include "cuda/scratch.cuh"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 1024;

// Calls visit(i) for those entries of the table of sequence s that hold positions `from` and up; by a warp.
template <class Visit>
__device__ void visit_pages(const PagedBatch& batch, int s, int from, Visit visit) {
  if (batch.tokens(s) == 0) return;
  const int last = (batch.past[s] + batch.tokens(s) - 1) / batch.page_size;
  for (int i = from / batch.page_size + threadIdx.x % kWarp; i <= last; i += kWarp) visit(i);
}

// taken: an int for each page of the pool; null where pages are only read.
__global__ void __launch_bounds__(kThreads)
    pages_kernel(PagedBatch batch, int64_t pool, int* taken, Faults faults) {
  wait_for_previous_launch();
  if (faults.pending()) return;
  const int warp = threadIdx.x / kWarp, warps = kThreads / kWarp;
  const int64_t room = int64_t{batch.max_pages} * batch.page_size;
  const auto length = [&](int s) { return int64_t{batch.past[s]} + batch.tokens(s); };
  const auto from = [&](int s) { return taken ? batch.past[s] : 0; };
  auto& first = shared<unsigned long long, struct First>();  // the least s * step + (0: too long; 1 + i: entry i)
  auto& twice = shared<int, struct Twice>();
  const unsigned long long none = ~0ull, step = batch.max_pages + 1;
  if (threadIdx.x == 0) first = none, twice = INT32_MAX;
  __syncthreads();

  for (int s = warp; s < batch.sequences; s += warps) {
    if (length(s) > room && (taken || batch.tokens(s) > 0)) {
      atomicMin(&first, s * step);
      continue;
    }
    visit_pages(batch, s, from(s), [&](int i) {
      if (batch.page(s, i) < 0 || batch.page(s, i) >= pool) atomicMin(&first, s * step + 1 + i);
    });
  }
  __syncthreads();
  if (first != none) {
    const int s = static_cast<int>(first / step), i = static_cast<int>(first % step) - 1;
    if (threadIdx.x != 0) return;
    if (i < 0) faults.report(Rule::too_long, Name::none, length(s), room, s, batch.max_pages);
    else faults.report(Rule::index, Name::pages, batch.page(s, i), pool - 1, s, i);
    return;
  }
  if (!taken) return;

  // Counts how often each page is named, after clearing the counters of just these.
  for (int s = warp; s < batch.sequences; s += warps)
    visit_pages(batch, s, from(s), [&](int i) { atomicExch(&taken[batch.page(s, i)], 0); });
  __syncthreads();
  for (int s = warp; s < batch.sequences; s += warps)
    visit_pages(batch, s, from(s), [&](int i) {
      if (atomicAdd(&taken[batch.page(s, i)], 1) > 0) atomicMin(&twice, batch.page(s, i));
    });
  __syncthreads();
  if (threadIdx.x == 0 && twice != INT32_MAX) faults.report(Rule::page_twice, Name::none, twice, 0, -1);
}

}  // namespace

void check_pages_read(const PagedBatch& batch, int64_t pool) {
  launch(pages_kernel, {.block = kThreads}, batch, pool, nullptr, faults());
}

void check_pages_written(const PagedBatch& batch, int64_t pool) {
  const Scratch taken(pool * sizeof(int));
  launch(pages_kernel, {.block = kThreads}, batch, pool, taken.as<int>(), faults());
}

}  // namespace nemotron_h::cuda
