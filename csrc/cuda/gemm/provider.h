// Who computes a product: the kernels here, or cuBLASLt where it was measured to be faster (choices.def).
//
// What serving multiplies stays here: cuBLASLt cuts sums into other pieces for other M, and a sequence's tokens must
// not depend on how many stand beside it (docs/architecture.md).
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "dtype.h"

namespace nemotron_h::cuda::gemm {

enum class Provider { own, cublaslt };

// How a and b lie, as the ops are named: a as [M,K] (N) or [K,M] (T), b as [K,N] (N) or [N,K] (T).
enum class Orders { NT, NN, TN, TT };
constexpr Orders orders(bool a_transposed, bool b_transposed) {
  if (a_transposed) return b_transposed ? Orders::TN : Orders::TT;
  return b_transposed ? Orders::NN : Orders::NT;
}

struct ProductShape {
  int architecture;  // 90 is Hopper
  DType a, b, y;
  Orders orders;
  bool decode, fast;  // as product.h has them
  int64_t M, N, K;

  bool operator==(const ProductShape&) const = default;
};

// Whether a row of y must be the same however many there are. (Those of fp8 that have one scale are not, anyway.)
constexpr bool serves(const ProductShape& s) { return s.orders == Orders::NT && (s.decode || s.a == DType::bf16); }

// The shape whose line in the table counts: tokens are rounded up to a power of two.
constexpr ProductShape listed(ProductShape s) {
  int64_t& tokens = s.orders == Orders::TN || s.orders == Orders::TT ? s.K : s.M;
  tokens = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(tokens)));
  return s;
}

constexpr Provider fastest(std::span<const ProductShape> cublaslt_is_faster, const ProductShape& shape) {
  const ProductShape line = listed(shape);
  for (const ProductShape& s : cublaslt_is_faster)
    if (s == line) return Provider::cublaslt;
  return Provider::own;
}

// Under the setting of cuda/kernels.h.
Provider provider(const ProductShape&);

namespace example {
constexpr ProductShape kTable[] = {
    {90, DType::e4m3, DType::e4m3, DType::bf16, Orders::NT, false, true, 1024, 4096, 21504},
    {90, DType::bf16, DType::bf16, DType::f32, Orders::TN, false, false, 4096, 4096, 8192},
};
constexpr ProductShape with(ProductShape s, int64_t M, int64_t N, int64_t K) { return s.M = M, s.N = N, s.K = K, s; }
static_assert(fastest(kTable, kTable[0]) == Provider::cublaslt);
static_assert(fastest(kTable, with(kTable[0], 513, 4096, 21504)) == Provider::cublaslt);
static_assert(fastest(kTable, with(kTable[0], 512, 4096, 21504)) == Provider::own);
static_assert(fastest(kTable, with(kTable[0], 1025, 4096, 21504)) == Provider::own);
static_assert(fastest(kTable, with(kTable[0], 1024, 4096, 16384)) == Provider::own);
static_assert(fastest(kTable, with(kTable[1], 4096, 4096, 5000)) == Provider::cublaslt);
static_assert(fastest(kTable, with(kTable[1], 3000, 4096, 8192)) == Provider::own);
static_assert(orders(false, false) == Orders::NT && orders(true, true) == Orders::TN);
}  // namespace example

}  // namespace nemotron_h::cuda::gemm
