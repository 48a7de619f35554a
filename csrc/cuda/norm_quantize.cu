// Norms, and a gated activation, whose results go to fp8, with the bits of the op, its largest magnitudes and quantize one after the other.
//
// A scale for each row: a block takes a row and passes over memory once. One scale for all: the first kernel finds the
// largest magnitude and what each row is multiplied with, the second computes the norm again as it quantises; only a
// gated norm, which would read twice what it stores, is stored between the two. Rows that are not whole packs, or wider
// than registers hold, are left to the separate ops.
#include "checks.h"
#include "cuda/norm.cuh"
#include "cuda/quantize_transpose.cuh"
#include "cuda/scratch.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kMost = 1024;  // threads of a block that takes a row

// A team for each group of `size` columns. Packs past a group's end repeat its last.
template <class Source, class To>
__global__ void __launch_bounds__(kMost)
    row_kernel(Source source, const float* weight, unsigned team, float eps, Rows<To> y, float* inverse, int64_t size) {
  wait_for_previous_launch();
  const int64_t t = blockIdx.x;
  const unsigned group = team == blockDim.x ? 0 : threadIdx.x / team, warps = team / kWarp;
  const int64_t begin = group * size, end = begin + size;
  norm::Part part(source, weight, t, begin, end, threadIdx.x - group * team, team);
  const float squares = team_reduce<kMost, struct Squares>(part.squares(), Sum{}, group * warps, warps);
  part.normalize(norm::inverse_root(squares, size, eps));

  float most = 0;
#pragma unroll
  for (int i = 0; i < norm::kHeld; ++i) most = fmaxf(most, norm::round_to<typename Source::Element>(part.held[i]));
  const float scale = scale_from_amax<To>(block_reduce<kMost, struct Most>(most, Max{}));
  if (threadIdx.x == 0) inverse[t] = 1 / scale;
#pragma unroll
  for (int i = 0; i < norm::kHeld; ++i) {
#pragma unroll
    for (int j = 0; j < kPack; ++j) part.held[i][j] *= scale;
    store_pack<kPack>(y[t], part.column(i), end, part.held[i]);
  }
}

// A row of silu_mul, kGatedHeld packs a thread.
constexpr int kGatedHeld = 4;
template <class E, class To>
__global__ void __launch_bounds__(kMost)
    silu_mul_row_kernel(Rows<const E> gate, Rows<const E> up, Rows<To> y, float* inverse, int64_t D) {
  wait_for_previous_launch();
  const int64_t t = blockIdx.x;
  const auto column = [](int i) { return (int64_t{blockDim.x} * i + threadIdx.x) * kPack; };
  Pack<E, kPack> gates[kGatedHeld], ups[kGatedHeld];
#pragma unroll
  for (int i = 0; i < kGatedHeld; ++i) {
    gates[i] = load_within<kPack>(gate[t], column(i), D);
    ups[i] = load_within<kPack>(up[t], column(i), D);
  }
  float held[kGatedHeld][kPack], most = 0;
#pragma unroll
  for (int i = 0; i < kGatedHeld; ++i) {
#pragma unroll
    for (int j = 0; j < kPack; ++j) held[i][j] = silu(widen(gates[i].v[j])) * widen(ups[i].v[j]);
    most = fmaxf(most, norm::round_to<E>(held[i]));
  }
  const float scale = scale_from_amax<To>(block_reduce<kMost, struct Most>(most, Max{}));
  if (threadIdx.x == 0) inverse[t] = 1 / scale;
#pragma unroll
  for (int i = 0; i < kGatedHeld; ++i) {
#pragma unroll
    for (int j = 0; j < kPack; ++j) held[i][j] *= scale;
    store_pack<kPack>(y[t], column(i), D, held[i]);
  }
}

// *amax was 0. roots and y: where there are any. A block takes several parts, groups of rows, and raises amax once.
template <class Source, class E>
__global__ void __launch_bounds__(norm::kThreads, 1)
    largest_kernel(Source source, const float* weight, unsigned groups, float eps, float* amax, float* roots, Rows<E> y,
                   unsigned parts, int64_t size) {
  wait_for_previous_launch();
  float most = 0;
  for (unsigned i = blockIdx.x; i < parts; i += gridDim.x) {
    const int64_t t = i / groups, begin = i % groups * size, end = begin + size;
    norm::Part part(source, weight, t, begin, end, threadIdx.x, blockDim.x);
    const float squares = block_reduce<norm::kThreads, struct Squares>(part.squares(), Sum{});
    const float root = norm::inverse_root(squares, size, eps);
    if (roots && threadIdx.x == 0) roots[i] = root;
    part.normalize(root);
#pragma unroll
    for (int j = 0; j < norm::kHeld; ++j) {
      most = fmaxf(most, norm::round_to<E>(part.held[j]));
      if (y.data) store_pack<kPack>(y[t], part.column(j), end, part.held[j]);
    }
    __syncthreads();  // before the sums of the next
  }
  most = block_reduce<norm::kThreads, struct Most>(most, Max{});
  if (threadIdx.x == 0) raise(amax, most);
}

// An element of a norm, as stored.
template <class E>
__device__ float normalized(float x, float root, float weight) { return widen(narrow<E>(x * root * weight)); }

template <class E, class To>
struct Quantized {
  const float *roots, *amax;
  float* inverse;
  __device__ auto operator()(int64_t t, bool first) const {
    const float root = roots[t], scale = scale_from_amax<To>(*amax);
    if (t == 0 && first) *inverse = 1 / scale;
    return [=](float x, float weight) { return normalized<E>(x, root, weight) * scale; };
  }
};

template <class E>
struct Normalized {
  const float *weight, *roots;
  __device__ auto of_column(int64_t d, int64_t D) const { return load_pack<kPack>(weight, d, D); }
  __device__ float of_row(int64_t t) const { return roots[t]; }
  __device__ void apply(float (&v)[kPack], float root, const Pack<float, kPack>& weights) const {
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = normalized<E>(v[i], root, weights.v[i]);
  }
};

// ---- on the host

// Whether these are rows in `groups` of whole packs, and registers hold a group.
template <class... Tensors>
bool held(int64_t groups, const Tensor& x, const Tensors&... tensors) {
  const int64_t size = x.size(1) / groups;
  return x.numel() > 0 && size <= norm::kThreads * norm::kHeld * kPack && packs(size, x, tensors...);
}

void quantize_separately(const Tensor& x, int64_t scales, DType to, const Tensor& y, const Tensor& scale) {
  const Temporary largest(scales);
  if (scales == 1) amax(x, largest.tensor);
  else row_amax(x, largest.tensor);
  quantize(x, largest.tensor, to, y, scale);
}

template <class Source>
void quantize_rows(const Source& source, const Tensor& weight, int64_t groups, float eps, DType to, const Tensor& y,
                   const Tensor& scale) {
  const int64_t size = y.size(1) / groups;
  const unsigned team = norm::team_for(size);
  const Shape shape{.grid = static_cast<unsigned>(y.size(0)), .block = static_cast<unsigned>(groups) * team};
  with_fp8(to, [&]<class To>() {
    launch(row_kernel<Source, To>, shape, source, weight.as<float>(), team, eps, rows<To>(y), scale.as<float>(), size);
  });
}

// Of T rows; y and roots as of the kernel.
template <class Source>
void find_largest(const Source& source, int64_t T, const Tensor& weight, int64_t groups, float eps,
                  const Tensor& largest, const Tensor& roots, const Tensor& y) {
  using E = typename Source::Element;
  const int64_t size = weight.size(0) / groups, parts = T * groups;
  const unsigned team = norm::team_for(size);
  const int64_t blocks = int64_t{current().processors} * (2048 / team);  // what may run at once
  zero(largest.as<float>(), 1);
  launch(largest_kernel<Source, E>, {.grid = static_cast<unsigned>(std::min(parts, blocks)), .block = team}, source,
         weight.as<float>(), static_cast<unsigned>(groups), eps, largest.as<float>(), roots.as<float>(), rows<E>(y),
         static_cast<unsigned>(parts), size);
}

// The norm of `x`, which is what `source` gives and keeps.
template <class Source>
void quantize_held(const Source& source, const Tensor& x, const Tensor& weight, float eps, int64_t scales, DType to,
                   const Tensor& y, const Tensor& scale) {
  using E = typename Source::Element;
  const int64_t T = x.size(0), D = x.size(1);
  if (scales == T) return quantize_rows(source, weight, 1, eps, to, y, scale);

  const Temporary roots(T), largest(1);
  find_largest(source, T, weight, 1, eps, largest.tensor, roots.tensor, {});
  with_fp8(to, [&]<class To>() {
    using Of = Quantized<E, To>;
    const Pieces<kPack> pieces(D);
    launch(map_kernel<kPack, Of, To, E, float>, pieces.shape(T), pieces,
           Of{roots.tensor.as<float>(), largest.tensor.as<float>(), scale.as<float>()}, rows<To>(y), rows<const E>(x),
           Rows<const float>{weight.as<float>(), 0});
  });
}

}  // namespace

void rms_norm_quantize(const Tensor& x, const Tensor& weight, float eps, int64_t scales, DType to, const Tensor& y,
                       const Tensor& scale) {
  const int64_t T = x.size(0), D = x.size(1);
  check_scales(scales, "T", T);
  if (!held(1, x, weight, y)) {
    const Temporary normed(x.dtype, T, D);
    rms_norm(x, weight, eps, normed.tensor);
    return quantize_separately(normed.tensor, scales, to, y, scale);
  }
  with_act(x.dtype, [&]<class E>() {
    quantize_held(norm::Plain<E, kPack>{rows<const E>(x)}, x, weight, eps, scales, to, y, scale);
  });
}

void add_rms_norm_quantize(const Tensor& residual, const Tensor& x, const Tensor& weight, float eps, int64_t scales,
                           DType to, const Tensor& y, const Tensor& scale) {
  const int64_t T = x.size(0), D = x.size(1);
  check_scales(scales, "T", T);
  if (!held(1, residual, x, weight, y)) {
    const Temporary normed(x.dtype, T, D);
    add_rms_norm(residual, x, weight, eps, normed.tensor);
    return quantize_separately(normed.tensor, scales, to, y, scale);
  }
  with_act(x.dtype, [&]<class E>() {
    quantize_held(norm::Added<E, kPack>{rows<E>(residual), rows<const E>(x)}, residual, weight, eps, scales, to, y,
                  scale);
  });
}

void gated_rms_norm_quantize(const Tensor& x, const Tensor& z, const Tensor& weight, int64_t groups, float eps,
                             int64_t scales, DType to, const Tensor& y, const Tensor& scale) {
  const int64_t T = x.size(0), D = x.size(1);
  check_groups(groups, D);
  check_scales(scales, "T", T);
  const bool whole = held(groups, x, z, weight, y);
  if (whole && scales == T && groups * norm::team_for(D / groups) <= kMost)
    return with_act(x.dtype, [&]<class E>() {
      quantize_rows(norm::Gated<E, kPack>{rows<const E>(x), rows<const E>(z)}, weight, groups, eps, to, y, scale);
    });

  const Temporary normed(x.dtype, T, D);
  if (whole && scales == 1) {
    const Temporary largest(1);
    with_act(x.dtype, [&]<class E>() {
      find_largest(norm::Gated<E, kPack>{rows<const E>(x), rows<const E>(z)}, T, weight, groups, eps, largest.tensor,
                   {}, normed.tensor);
    });
    return quantize(normed.tensor, largest.tensor, to, y, scale);
  }
  gated_rms_norm(x, z, weight, groups, eps, normed.tensor);
  quantize_separately(normed.tensor, scales, to, y, scale);
}

void silu_mul_quantize(const Tensor& gate, const Tensor& up, int64_t scales, DType to, const Tensor& y,
                       const Tensor& scale) {
  const int64_t T = gate.size(0), D = gate.size(1);
  check_scales(scales, "T", T);
  if (scales == T && T > 0 && D > 0 && D <= int64_t{kMost} * kGatedHeld * kPack && packs(D, gate, up, y))
    return with_act(gate.dtype, [&]<class E>() {
      with_fp8(to, [&]<class To>() {
        const Shape shape{.grid = static_cast<unsigned>(T), .block = threads_for(ceil_div(D, kPack), kGatedHeld, kMost)};
        launch(silu_mul_row_kernel<E, To>, shape, rows<const E>(gate), rows<const E>(up), rows<To>(y),
               scale.as<float>(), D);
      });
    });
  const Temporary product(gate.dtype, T, D);
  silu_mul(gate, up, product.tensor);
  quantize_separately(product.tensor, scales, to, y, scale);
}

void rms_norm_quantize_transpose(const Tensor& x, const Tensor& weight, float eps, DType to, const Tensor& y,
                                 const Tensor& transposed, const Tensor& scale) {
  const int64_t T = x.size(0), D = x.size(1);
  const Temporary largest(1);
  if (!held(1, x, weight, y) || !packs(T, transposed)) {
    const Temporary normed(x.dtype, T, D);
    rms_norm(x, weight, eps, normed.tensor);
    amax(normed.tensor, largest.tensor);
    return quantize_transpose(normed.tensor, largest.tensor, to, y, transposed, scale);
  }
  const Temporary roots(T);
  with_act(x.dtype, [&]<class E>() {
    find_largest(norm::Plain<E, kPack>{rows<const E>(x)}, T, weight, 1, eps, largest.tensor, roots.tensor, {});
    with_fp8(to, [&]<class To>() {
      const Normalized<E> change{weight.as<float>(), roots.tensor.as<float>()};
      both_layouts::run<E, To, kPack>(x, change, largest.tensor.as<float>(), y, transposed, scale.as<float>());
    });
  });
}

}  // namespace nemotron_h::cuda
