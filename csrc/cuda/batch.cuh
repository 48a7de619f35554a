// The packed batch on the device: checks of offsets, past, slots and indices, and where a token belongs. The two ops
// that take a decode batch from step to step are beside the checks (batch.cu).
//
// A check is a small kernel before an op's own, and tells the first thing wrong in the CPU backend's order; the op's
// kernel begins with `if (faults.pending()) return`. The ops of decoding check as they go: see decode_slot.
#pragma once

#include "cuda/kernel.cuh"

namespace nemotron_h::cuda {

// 0 <= values[i] < limit.
void check_indices(Name name, const Tensor& values, int64_t limit);
// Offsets rise from 0 to `tokens`, past >= 0; with slots: each lies in the pool and is named once.
void check_sequences(const Tensor& offsets, const Tensor& past, int64_t tokens);
void check_sequences(const Tensor& offsets, const Tensor& past, int64_t tokens, const Tensor& slots, int64_t pool);
// After these, with slots: the rows (t, slot) of `saves` rise by t, which is the end of a sequence or of a chunk of it
// (where the position is a multiple of `chunk`), and each slot lies in the pool and is no other's.
void check_saves(const Tensor& saves, const Tensor& offsets, const Tensor& past, int64_t tokens, const Tensor& slots,
                 int64_t pool, int64_t chunk);
// Offsets rise from 0 to `total`, the number of `counted`.
void check_offsets(const Tensor& offsets, int64_t total, Name counted);
// Offsets rise from 0 to `tokens`, and no sequence is empty.
void check_ends(const Tensor& offsets, int64_t tokens);

// The sequence s with offsets[s] <= t < offsets[s + 1], offsets having been checked.
__device__ inline int find_sequence(const int32_t* offsets, int sequences, int64_t t) {
  int low = 0, high = sequences;  // offsets[low] <= t < offsets[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (offsets[middle] <= t) low = middle;
    else high = middle;
  }
  return low;
}

// The slot of sequence s of a decode batch, checked; -1 after a report. All threads of a block call it for one s.
__device__ inline int64_t decode_slot(const int32_t* past, const int32_t* slots, int s, int64_t pool, Faults faults) {
  const int32_t slot = slots[s];
  int wrong = 0;
  if (past[s] < 0) {
    wrong = 1;
    if (threadIdx.x == 0) faults.report(Rule::not_negative, Name::past, past[s], 0, s);
  } else if (slot < 0 || slot >= pool) {
    wrong = 1;
    if (threadIdx.x == 0) faults.report(Rule::index, Name::slots, slot, pool - 1, s);
  }
  for (int other = threadIdx.x; other < s; other += blockDim.x) {
    if (slots[other] != slot) continue;
    wrong = 1;
    faults.report(Rule::slot_twice, Name::none, slot, 0, s);
  }
  return __syncthreads_or(wrong) ? -1 : slot;
}

}  // namespace nemotron_h::cuda
