#include "cuda/gemm/provider.h"

#include <atomic>
#include <iterator>

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

std::atomic<Gemm> setting = Gemm::measured;

}  // namespace

void use(Gemm gemm) { setting = gemm; }

Provider provider(const ProductShape& shape) {
  const Gemm now = setting;
  if (now == Gemm::measured) return fastest(kCublasLtIsFaster, shape);
  return now == Gemm::cublaslt ? Provider::cublaslt : Provider::own;
}

bool portable_only() { return setting == Gemm::portable; }

}  // namespace nemotron_h::cuda::gemm
