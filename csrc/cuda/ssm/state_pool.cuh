// The pool of states, of f32 or f16: what is read becomes f32, what is written is rounded to nearest.
#pragma once

#include "cuda/kernel.cuh"

namespace nemotron_h::cuda {

struct StatePool {
  void* data;  // [Slots,H,P,N]
  bool is_f16;

  __device__ float load(int64_t i) const {
    return is_f16 ? widen(static_cast<const f16*>(data)[i]) : static_cast<const float*>(data)[i];
  }
  // f16 saturates.
  __device__ void store(int64_t i, float v) const {
    if (is_f16) static_cast<f16*>(data)[i] = narrow<f16>(saturated(v));
    else static_cast<float*>(data)[i] = v;
  }

  // Elements i and i + 1, of which `left` are there; in one access where they are both and that is `aligned`.
  __device__ void load_pair(int64_t i, float& a, float& b, int left, bool aligned) const {
    float v[2] = {};
    if (!aligned || left < 2) {
      if (left > 0) v[0] = load(i);
      if (left > 1) v[1] = load(i + 1);
    } else if (is_f16) {
      cuda::load(static_cast<const f16*>(data) + i, v);
    } else {
      cuda::load(static_cast<const float*>(data) + i, v);
    }
    a = v[0], b = v[1];
  }
  __device__ void store_pair(int64_t i, float a, float b, int left, bool aligned) const {
    if (!aligned || left < 2) {
      if (left > 0) store(i, a);
      if (left > 1) store(i + 1, b);
    } else if (is_f16) {
      cuda::store(static_cast<f16*>(data) + i, {saturated(a), saturated(b)});
    } else {
      cuda::store(static_cast<float*>(data) + i, {a, b});
    }
  }

 private:
  static __device__ float saturated(float v) { return v > 65504 ? 65504 : v < -65504 ? -65504 : v; }
};
inline StatePool state_pool(const Tensor& state) { return {state.data.get(), state.dtype == DType::f16}; }

}  // namespace nemotron_h::cuda
