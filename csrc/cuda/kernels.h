// Which kernels run on a GPU where there are several for an op: the setting NEMOTRON_H_KERNELS.
#pragma once

namespace nemotron_h::cuda {

// measured, as at the start: the kernels here, or cuBLASLt for products that it was measured to be faster at
// (gemm/choices.def). The others whatever the shape: the kernels here; of them only those for every GPU, none of which
// is for one architecture; cuBLASLt for all products that it can.
enum class Kernels { measured, own, portable, cublaslt };

void use(Kernels);
Kernels kernels();

}  // namespace nemotron_h::cuda
