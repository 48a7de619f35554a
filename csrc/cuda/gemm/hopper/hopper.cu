#include "cuda/gemm/hopper/hopper.h"

#include "cuda/tensor_map.h"

namespace nemotron_h::cuda::gemm::hopper {

bool takes(const Product& p) {
  const DType a = p.a.dtype, b = p.b.dtype;
  const bool is_bf16 = a == DType::bf16 && b == DType::bf16;
  const bool is_fp8 = (a == DType::e4m3 && (b == DType::e4m3 || b == DType::e5m2)) ||
                      (a == DType::e5m2 && b == DType::e4m3);
  // Even of one row, as of the many of which it may be one elsewhere: it has the same bits there.
  const bool aligned = p.a.row_stride * size_of(a) % 16 == 0;
  return current().architecture == 90 && !p.decode &&
         (is_bf16 || (is_fp8 && !p.a_transposed && !p.b_transposed)) && aligned && has_tensor_map(p.a) &&
         has_tensor_map(p.b);
}

void run(const Product& p) { p.a.dtype == DType::bf16 ? run_bf16(p) : run_fp8(p); }

}  // namespace nemotron_h::cuda::gemm::hopper
