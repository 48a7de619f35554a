// Settings of all GPUs: which kernels run where there are several for an op, and whether launches overlap.
#pragma once

namespace nemotron_h::cuda {

// NEMOTRON_H_KERNELS. measured, as at the start: the kernels here, or cuBLASLt for products that it was measured to be
// faster at (gemm/choices.def). The others whatever the shape: the kernels here; of them only those for every GPU, none
// of which is for one architecture; cuBLASLt for all products that it can.
enum class Kernels { measured, own, portable, cublaslt };

void use(Kernels);
Kernels kernels();

// Whether launches may overlap (overlap.h): the setting NEMOTRON_H_OVERLAP. At the start they may.
void use_overlap(bool);
bool overlaps();

}  // namespace nemotron_h::cuda
