// The products of bf16 on sm_90a: both tiles, each operand with k as its columns or as its rows.
#include "cuda/gemm/hopper/hopper.h"
#include "cuda/gemm/hopper/kernel.cuh"

namespace nemotron_h::cuda::gemm::hopper {

void run_bf16(const Product& p) {
  with_tile(p.y.M, p.y.N, current().processors, [&]<class Tile>() {
    if (p.a_transposed && p.b_transposed) run<bf16, bf16, false, false, Tile>(p);
    else if (p.a_transposed) run<bf16, bf16, false, true, Tile>(p);
    else if (p.b_transposed) run<bf16, bf16, true, false, Tile>(p);
    else run<bf16, bf16, true, true, Tile>(p);
  });
}

}  // namespace nemotron_h::cuda::gemm::hopper
