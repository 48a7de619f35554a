// Products of many rows on sm_90a: bf16 in all orders of operands, and fp8, K-major.
#pragma once

#include "cuda/gemm/product.h"

namespace nemotron_h::cuda::gemm::hopper {

// Whether they are for these kernels: operands of bf16, or of fp8 that are not both e5m2 and not transposed, which TMA
// can read. Any M, N and K, none of them 0.
bool takes(const Product&);
void run(const Product&);

// Of them the products of bf16, and of fp8.
void run_bf16(const Product&);
void run_fp8(const Product&);

}  // namespace nemotron_h::cuda::gemm::hopper
