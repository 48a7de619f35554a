#include "cuda/gemm/provider.h"

#include <iterator>

#include "cuda/kernels.h"

namespace nemotron_h::cuda::gemm {
namespace {

#define CHOICE(architecture, a, b, y, orders, fast, M, N, K) \
  ProductShape{architecture, DType::a, DType::b, DType::y, Orders::orders, false, fast, M, N, K},
constexpr ProductShape kLines[] = {
#include "cuda/gemm/choices.def"
    {}  // no product: an array has elements
};
#undef CHOICE
constexpr std::span<const ProductShape> kCublasLtIsFaster(kLines, std::size(kLines) - 1);

constexpr bool all_count() {
  for (const ProductShape& s : kCublasLtIsFaster)
    if (serves(s) || s != listed(s)) return false;
  return true;
}
static_assert(all_count(), "choices.def has a line of no size that is looked up, or of what serving multiplies");

}  // namespace

Provider provider(const ProductShape& shape) {
  const Kernels now = kernels();
  if (now == Kernels::measured) return fastest(kCublasLtIsFaster, shape);
  return now == Kernels::cublaslt ? Provider::cublaslt : Provider::own;
}

}  // namespace nemotron_h::cuda::gemm
