// The scan on sm_90a as one kernel, in which a head's state never leaves the chip.
#pragma once

#include "tensor.h"

namespace nemotron_h::cuda::ssm::hopper {

// Of which heads and states there are kernels, for bf16 activations. `chunk` is what is left of the op's by cutting.
bool takes(const Tensor& x, const Tensor& B, int64_t chunk);

// ssm_scan (csrc/ops.def), whose arguments have been checked.
void run(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& D,
         const Tensor& dt_bias, float dt_min, float dt_max, const Tensor& z, int64_t chunk, int64_t segment,
         const Tensor& offsets, const Tensor& past, const Tensor& slots, const Tensor& state, const Tensor& saves,
         const Tensor& y);

}  // namespace nemotron_h::cuda::ssm::hopper
