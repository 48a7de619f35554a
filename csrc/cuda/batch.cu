#include "cuda/batch.cuh"

#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 256;

// The smallest i < n for which wrong(i), or n; the same in every thread.
template <class Tag, class Wrong>
__device__ int first(int n, Wrong wrong) {
  auto& found = shared<int, Tag>();
  if (threadIdx.x == 0) found = n;
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += kThreads) {
    if (!wrong(i)) continue;
    atomicMin(&found, i);
    break;
  }
  __syncthreads();
  return found;
}

__device__ bool offsets_rise(const int32_t* offsets, int sequences, int64_t total, Name counted, Faults faults) {
  const bool reports = threadIdx.x == 0;
  if (offsets[0] != 0) {
    if (reports) faults.report(Rule::first_offset, Name::none, offsets[0], 0, 0);
    return false;
  }
  if (offsets[sequences] != total) {
    if (reports) faults.report(Rule::last_offset, counted, offsets[sequences], total, sequences);
    return false;
  }
  const int s = first<struct Rising>(sequences, [&](int i) { return offsets[i + 1] < offsets[i]; });
  if (s == sequences) return true;
  if (reports) faults.report(Rule::rising, Name::none, offsets[s + 1], offsets[s], s + 1);
  return false;
}

__device__ bool in_range(Name name, const int32_t* values, int64_t n, int64_t limit, Faults faults) {
  const int i = first<struct Range>(n, [&](int j) { return values[j] < 0 || values[j] >= limit; });
  if (i == n) return true;
  if (threadIdx.x == 0) faults.report(Rule::index, name, values[i], limit - 1, i);
  return false;
}

// Each lies in the pool, and none is named twice.
__device__ bool slots_apart(const int32_t* slots, int sequences, int64_t pool, Faults faults) {
  if (!in_range(Name::slots, slots, sequences, pool, faults)) return false;
  const int twice = first<struct Twice>(sequences, [&](int i) {
    for (int other = 0; other < i; ++other)
      if (slots[other] == slots[i]) return true;
    return false;
  });
  if (twice == sequences) return true;
  if (threadIdx.x == 0) faults.report(Rule::slot_twice, Name::none, slots[twice], 0, twice);
  return false;
}

__global__ void __launch_bounds__(kThreads)
    indices_kernel(Name name, const int32_t* values, int64_t n, int64_t limit, Faults faults) {
  wait_for_previous_launch();
  in_range(name, values, n, limit, faults);
}

__global__ void __launch_bounds__(kThreads)
    offsets_kernel(const int32_t* offsets, int sequences, int64_t total, Name counted, Faults faults) {
  wait_for_previous_launch();
  offsets_rise(offsets, sequences, total, counted, faults);
}

// No sequence is empty.
__global__ void __launch_bounds__(kThreads)
    ends_kernel(const int32_t* offsets, int sequences, int64_t total, Faults faults) {
  wait_for_previous_launch();
  const int s = first<struct Empty>(sequences, [&](int i) { return offsets[i + 1] <= offsets[i]; });
  if (threadIdx.x != 0) return;
  if (offsets[0] != 0) faults.report(Rule::first_offset, Name::none, offsets[0], 0, 0);
  else if (s < sequences) faults.report(Rule::not_empty, Name::none, offsets[s + 1], offsets[s], s + 1);
  else if (offsets[s] != total) faults.report(Rule::last_offset, Name::tokens, offsets[s], total, s);
}

// slots: null where an op has none.
__global__ void __launch_bounds__(kThreads)
    sequences_kernel(const int32_t* offsets, const int32_t* past, int sequences, int64_t tokens, const int32_t* slots,
                     int64_t pool, Faults faults) {
  wait_for_previous_launch();
  if (!offsets_rise(offsets, sequences, tokens, Name::tokens, faults)) return;
  const int s = first<struct Past>(sequences, [&](int i) { return past[i] < 0; });
  if (s < sequences) {
    if (threadIdx.x == 0) faults.report(Rule::not_negative, Name::past, past[s], 0, s);
    return;
  }
  if (slots) slots_apart(slots, sequences, pool, faults);
}

// Each row after the ones before it: what is wrong first is told of the first that is.
__global__ void __launch_bounds__(kThreads)
    saves_kernel(const int32_t* saves, int rows, const int32_t* offsets, const int32_t* past, int sequences,
                 int64_t tokens, const int32_t* slots, int64_t pool, int64_t chunk, Faults faults) {
  wait_for_previous_launch();
  if (faults.pending()) return;
  const auto broken = [&](int e) {
    const int32_t t = saves[2 * e], slot = saves[2 * e + 1];
    if (t < 1 || t > tokens) return Rule::from_1;
    if (e > 0 && t <= saves[2 * e - 2]) return Rule::more;
    const int s = find_sequence(offsets, sequences, t - 1);
    const int64_t position = past[s] + static_cast<int64_t>(t - offsets[s]);
    if (t != offsets[s + 1] && position % chunk != 0) return Rule::chunk_end;
    if (slot < 0 || slot >= pool) return Rule::index;
    for (int other = 0; other < sequences; ++other)
      if (slots[other] == slot) return Rule::slot_free;
    for (int other = 0; other < e; ++other)
      if (saves[2 * other + 1] == slot) return Rule::slot_free;
    return Rule::none;
  };
  const int e = first<struct Save>(rows, [&](int i) { return broken(i) != Rule::none; });
  if (e == rows || threadIdx.x != 0) return;
  const Rule rule = broken(e);
  const int column = rule == Rule::index || rule == Rule::slot_free;
  const int64_t limit = rule == Rule::from_1      ? tokens
                        : rule == Rule::more      ? saves[2 * e - 2]
                        : rule == Rule::chunk_end ? chunk
                                                  : pool - 1;
  faults.report(rule, Name::saves, saves[2 * e + column], limit, e, column);
}

__global__ void __launch_bounds__(kThreads)
    take_ids_kernel(const int32_t* last, const int32_t* slots, int sequences, int64_t pool, int32_t* ids, Faults faults) {
  wait_for_previous_launch();
  if (!in_range(Name::slots, slots, sequences, pool, faults)) return;
  for (int s = threadIdx.x; s < sequences; s += kThreads) ids[s] = last[slots[s]];
}

// past, step: null where they are not given.
__global__ void __launch_bounds__(kThreads)
    next_step_kernel(const int32_t* ids, const int32_t* slots, int sequences, int64_t pool, int32_t* last, int32_t* past,
                     int32_t* step, Faults faults) {
  wait_for_previous_launch();
  if (!slots_apart(slots, sequences, pool, faults)) return;
  for (int s = threadIdx.x; s < sequences; s += kThreads) {
    last[slots[s]] = ids[s];
    if (past) ++past[s];
    if (step) ++step[s];
  }
}

}  // namespace

void take_ids(const Tensor& last, const Tensor& slots, const Tensor& ids) {
  launch(take_ids_kernel, {.block = kThreads}, last.as<int32_t>(), slots.as<int32_t>(),
         static_cast<int>(slots.size(0)), last.size(0), ids.as<int32_t>(), faults());
}

void next_step(const Tensor& ids, const Tensor& slots, const Tensor& last, const Tensor& past, const Tensor& step) {
  launch(next_step_kernel, {.block = kThreads}, ids.as<int32_t>(), slots.as<int32_t>(),
         static_cast<int>(slots.size(0)), last.size(0), last.as<int32_t>(), past ? past.as<int32_t>() : nullptr,
         step ? step.as<int32_t>() : nullptr, faults());
}

void check_indices(Name name, const Tensor& values, int64_t limit) {
  launch(indices_kernel, {.grid = values.numel() > 0, .block = kThreads}, name, values.as<int32_t>(), values.numel(),
         limit, faults());
}

void check_offsets(const Tensor& offsets, int64_t total, Name counted) {
  launch(offsets_kernel, {.block = kThreads}, offsets.as<int32_t>(), static_cast<int>(offsets.size(0) - 1), total, counted,
         faults());
}

void check_ends(const Tensor& offsets, int64_t tokens) {
  launch(ends_kernel, {.block = kThreads}, offsets.as<int32_t>(), static_cast<int>(offsets.size(0) - 1), tokens,
         faults());
}

void check_sequences(const Tensor& offsets, const Tensor& past, int64_t tokens) {
  launch(sequences_kernel, {.block = kThreads}, offsets.as<int32_t>(), past.as<int32_t>(),
         static_cast<int>(past.size(0)), tokens, nullptr, int64_t{0}, faults());
}

void check_sequences(const Tensor& offsets, const Tensor& past, int64_t tokens, const Tensor& slots, int64_t pool) {
  launch(sequences_kernel, {.block = kThreads}, offsets.as<int32_t>(), past.as<int32_t>(),
         static_cast<int>(past.size(0)), tokens, slots.as<int32_t>(), pool, faults());
}

void check_saves(const Tensor& saves, const Tensor& offsets, const Tensor& past, int64_t tokens, const Tensor& slots,
                 int64_t pool, int64_t chunk) {
  launch(saves_kernel, {.grid = saves.size(0) > 0, .block = kThreads}, saves.as<int32_t>(),
         static_cast<int>(saves.size(0)), offsets.as<int32_t>(), past.as<int32_t>(), static_cast<int>(past.size(0)),
         tokens, slots.as<int32_t>(), pool, chunk, faults());
}

}  // namespace nemotron_h::cuda
