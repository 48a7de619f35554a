// Stages in shared memory that one side fills and the other empties, in turn.
#pragma once

#include "cuda/launch.cuh"

namespace nemotron_h::cuda {

// The stage that comes next, and the parity of its phase: of the barrier that tells it is full. Who waits for the one
// that tells it is empty waits for the parity before, and so at once in the first round.
template <int kStages>
struct Turn {
  int stage = 0;
  unsigned parity = 0;
  __device__ void next() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

}  // namespace nemotron_h::cuda
