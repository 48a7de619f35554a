// A product y[M,N] = a b', as linear.cu asks one of the kernels of this folder for it.
#pragma once

#include "cuda/gemm/output.cuh"

namespace nemotron_h::cuda::gemm {

struct Product {
  const Tensor &a, &b;  // [M,K] and [N,K]; or, transposed, [K,M] and [K,N]
  bool a_transposed = false, b_transposed = false;
  bool decode = false;  // by the kernels for few rows
  // For fp8: sums as the tensor core keeps them, which on Hopper is 14 bits (DeepSeek-V3, 3.3.2); else what it made of
  // each 128 of k is added up in f32.
  bool fast = false;
  Output y;

  int64_t K() const { return a.size(a_transposed ? 0 : 1); }
};

}  // namespace nemotron_h::cuda::gemm
