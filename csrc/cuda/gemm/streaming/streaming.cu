#include "cuda/gemm/streaming/streaming.h"

#include "cuda/gemm/streaming/kernel.cuh"

namespace nemotron_h::cuda::gemm::streaming {
namespace {

template <class X, class W>
void run(const Product& p) {
  if (p.y.M <= 16) launch_kernel<X, W, 16>(p);
  else if (p.y.M <= 64) launch_kernel<X, W, 64>(p);
  else launch_kernel<X, W, 128>(p);
}

}  // namespace

bool takes(const Product& p) {
  const DType x = p.a.dtype, weight = p.b.dtype;
  const bool fp8 = weight == DType::e4m3 || weight == DType::e5m2;
  const bool types = x == DType::bf16 ? weight == DType::bf16 || fp8 : x == DType::e4m3 && weight == DType::e4m3;
  // Even of one row, as of the many of which it may be one elsewhere: it has the same bits there.
  const bool aligned = p.a.row_stride * size_of(x) % 16 == 0;
  return current().architecture == 90 && p.decode && types && !p.a_transposed && !p.b_transposed && aligned &&
         has_tensor_map(p.a) && has_tensor_map(p.b) && p.y.M <= kMaxRows && p.K() <= INT32_MAX &&
         ceil_div(p.y.N, kTileRows) * kSlabs <= kTickets;
}

void run(const Product& p) {
  if (p.b.dtype == DType::bf16) run<bf16, bf16>(p);
  else if (p.a.dtype == DType::bf16) run<bf16, uint8_t>(p);
  else run<e4m3, e4m3>(p);
}

}  // namespace nemotron_h::cuda::gemm::streaming
