// The products of fp8 on sm_90a, fast and promoted.
#include "cuda/gemm/hopper/hopper.h"
#include "cuda/gemm/hopper/kernel.cuh"

namespace nemotron_h::cuda::gemm::hopper {

void run_fp8(const Product& p) {
  const auto of_tile = [&]<class Tile>() {
    if (p.a.dtype == DType::e5m2) run<e5m2, e4m3, true, true, Tile>(p);
    else if (p.b.dtype == DType::e5m2) run<e4m3, e5m2, true, true, Tile>(p);
    else run<e4m3, e4m3, true, true, Tile>(p);
  };
  if (p.fast) with_tile(p.y.M, p.y.N, current().processors, of_tile);
  else of_tile.operator()<Promoted>();
}

}  // namespace nemotron_h::cuda::gemm::hopper
