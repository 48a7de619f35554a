// What a decode batch takes to its next step: the tokens just drawn, and how far each sequence is.
#include "cpu/cpu.h"
#include "ops.h"

namespace nemotron_h::cpu {

void take_ids(const Tensor& last, const Tensor& slots, const Tensor& ids) {
  check_indices("slots", slots, last.size(0));
  for (int64_t s = 0; s < slots.size(0); ++s) ids.as<int32_t>()[s] = last.as<int32_t>()[slots.as<int32_t>()[s]];
}

void next_step(const Tensor& ids, const Tensor& slots, const Tensor& last, const Tensor& past, const Tensor& step) {
  check_slots(slots, last.size(0));
  for (int64_t s = 0; s < slots.size(0); ++s) {
    last.as<int32_t>()[slots.as<int32_t>()[s]] = ids.as<int32_t>()[s];
    if (past) ++past.as<int32_t>()[s];
    if (step) ++step.as<int32_t>()[s];
  }
}

}  // namespace nemotron_h::cpu
