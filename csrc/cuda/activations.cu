// The activations of the MLPs, element by element.
#include "cuda/rows.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

struct Relu2 {
  __device__ auto operator()(int64_t, bool) const {
    return [](float x) { return squared_relu(x); };
  }
};

struct SiluMul {
  __device__ auto operator()(int64_t, bool) const {
    return [](float gate, float up) { return silu(gate) * up; };
  }
};

}  // namespace

void relu2(const Tensor& x, const Tensor& y) {
  const int64_t T = x.size(0), D = x.size(1);
  with_act(x.dtype, [&]<class E>() { map(packs(D, x, y), T, D, Relu2{}, rows<E>(y), rows<const E>(x)); });
}

void silu_mul(const Tensor& gate, const Tensor& up, const Tensor& y) {
  const int64_t T = gate.size(0), D = gate.size(1);
  with_act(gate.dtype, [&]<class E>() {
    map(packs(D, gate, up, y), T, D, SiluMul{}, rows<E>(y), rows<const E>(gate), rows<const E>(up));
  });
}

}  // namespace nemotron_h::cuda
