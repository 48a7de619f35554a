// Ops that copy rows: from a table, from the ends of sequences, or into another element type.
#include <type_traits>

#include "cuda/batch.cuh"
#include "cuda/rows.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

// Which row of `from` is row t: t itself, or what a tensor says, which a kernel before has checked.
struct Source {
  const int32_t* rows = nullptr;
  int32_t after = 0;  // the row is one before that it names
};

template <class From, class To, int kN>
__global__ void __launch_bounds__(Pieces<kN>::kThreads)
    copy_rows_kernel(Pieces<kN> pieces, Rows<const From> from, Source source, Rows<To> to, Faults faults) {
  wait_for_previous_launch();
  constexpr int kEach = Pieces<kN>::kEach;
  if (source.rows && faults.pending()) return;
  const int64_t t = pieces.row(), s = source.rows ? source.rows[t] - source.after : t;
  Pack<From, kN> packs[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) packs[i] = load_within<kN>(from[s], pieces.begin(i), pieces.width);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (pieces.begin(i) >= pieces.width) continue;
    To* const place = to[t] + pieces.begin(i);
    if constexpr (std::is_same_v<From, To>) {
      store(place, packs[i]);  // which NaN it is, too
    } else {
      float v[kN];
      widen(packs[i], v);
      store(place, v);
    }
  }
}

template <class From, class To>
void copy_rows(const Tensor& from, Source source, const Tensor& to) {
  const int64_t D = to.size(1);
  with_packs(packs(D, from, to), [&]<int kN>() {
    const Pieces<kN> pieces(D);
    launch(copy_rows_kernel<From, To, kN>, pieces.shape(to.size(0)), pieces, rows<const From>(from), source,
           rows<To>(to), faults());
  });
}

}  // namespace

void embedding(const Tensor& ids, const Tensor& weight, DType to, const Tensor& y) {
  check_indices(Name::ids, ids, weight.size(0));
  with_real(weight.dtype, [&]<class From>() {
    with_act(to, [&]<class To>() { copy_rows<From, To>(weight, {ids.as<int32_t>()}, y); });
  });
}

void last_rows(const Tensor& x, const Tensor& offsets, const Tensor& y) {
  check_ends(offsets, x.size(0));
  with_act(x.dtype, [&]<class E>() { copy_rows<E, E>(x, {offsets.as<int32_t>() + 1, 1}, y); });
}

void cast(const Tensor& x, DType to, const Tensor& y) {
  with_real(x.dtype, [&]<class From>() {
    with_real(to, [&]<class To>() { copy_rows<From, To>(x, {}, y); });
  });
}

}  // namespace nemotron_h::cuda
