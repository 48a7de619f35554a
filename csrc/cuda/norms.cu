// Root mean square norms, over rows or over groups within rows: a block for each.
#include "checks.h"
#include "cuda/norm.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

template <class Source, class E>
__global__ void __launch_bounds__(norm::kThreads, 1)
    norm_kernel(Source source, const float* weight, unsigned groups, float eps, Rows<E> y, int64_t size) {
  wait_for_previous_launch();
  const int64_t t = groups == 1 ? blockIdx.x : blockIdx.x / groups;
  const int64_t begin = (blockIdx.x - t * groups) * size, end = begin + size;
  norm::normalize_row<norm::kThreads>(source, weight, t, begin, end, eps, [&](int64_t d, const float (&u)[kPack]) {
    store_pack<Source::kAccess>(y[t], d, end, u);
  });
}

// Of rows of D in `groups`.
template <class Source>
void normalize(const Source& source, const Tensor& weight, int64_t groups, float eps, const Tensor& y) {
  using E = typename Source::Element;
  const int64_t T = y.size(0), size = y.size(1) / groups;
  const Shape shape{.grid = static_cast<unsigned>(size == 0 ? 0 : T * groups), .block = norm::team_for(size)};
  launch(norm_kernel<Source, E>, shape, source, weight.as<float>(), static_cast<unsigned>(groups), eps, rows<E>(y),
         size);
}

}  // namespace

void rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) {
  with_act(x.dtype, [&]<class E>() {
    with_packs(packs(x.size(1), x, weight, y), [&]<int kN>() {
      normalize(norm::Plain<E, kN>{rows<const E>(x)}, weight, 1, eps, y);
    });
  });
}

void add_rms_norm(const Tensor& residual, const Tensor& x, const Tensor& weight, float eps, const Tensor& y) {
  with_act(x.dtype, [&]<class E>() {
    with_packs(packs(x.size(1), residual, x, weight, y), [&]<int kN>() {
      normalize(norm::Added<E, kN>{rows<E>(residual), rows<const E>(x)}, weight, 1, eps, y);
    });
  });
}

void gated_rms_norm(const Tensor& x, const Tensor& z, const Tensor& weight, int64_t groups, float eps,
                    const Tensor& y) {
  check_groups(groups, x.size(1));
  with_act(x.dtype, [&]<class E>() {
    with_packs(packs(x.size(1) / groups, x, z, weight, y), [&]<int kN>() {
      normalize(norm::Gated<E, kN>{rows<const E>(x), rows<const E>(z)}, weight, groups, eps, y);
    });
  });
}

}  // namespace nemotron_h::cuda
