// Products by cuBLASLt: the second provider beside the kernels of this folder's parent, and the yardstick for them.
#pragma once

#include "cuda/gemm/product.h"

namespace nemotron_h::cuda::gemm::cublaslt {

// Whether cuBLASLt is to compute it (provider.h), is there, and does exactly this: bf16 in any orders, or fp8 in rows
// of K with one scale each, into f32 or bf16, alone or added to what y holds.
bool takes(const Product&);

void run(const Product&);

}  // namespace nemotron_h::cuda::gemm::cublaslt
