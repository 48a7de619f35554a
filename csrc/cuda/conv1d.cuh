// A thread's channels of the causal depthwise convolution before the Mamba-2 scan.
#pragma once

#include "cuda/kernel.cuh"

namespace nemotron_h::cuda {

template <class T>
struct Convolution {
  Rows<const T> x;      // [T,D]
  const float* weight;  // [W,D]
  const float* bias;    // [D] or null
  T* state;             // [Slots,W-1,D]
  int W;
  int64_t D;

  __device__ T* of_slot(int64_t slot) const { return state + slot * (W - 1) * D; }
};

// kN channels of a sequence, from channel d on.
template <class T, int kN>
struct Channels {
  const Convolution<T>& op;
  int64_t d;
  int64_t begin, end;  // the sequence's tokens in the packed batch
  T* state;            // [W-1,D], of its slot
  bool fresh;          // without a past: the state counts as zero

  // x of token t, which may lie up to W-1 before the sequence.
  __device__ Pack<T, kN> row(int64_t t) const {
    const T *const given = op.x[t] + d, *const before = state + (t - begin + op.W - 1) * op.D + d;
    Pack<T, kN> v{};
    if (t >= begin || !fresh) v = load<kN>(t >= begin ? given : before);
    return v;
  }

  __device__ void load_bias(float (&v)[kN]) const {
    if (op.bias) return load(op.bias + d, v);
#pragma unroll
    for (int i = 0; i < kN; ++i) v[i] = 0;
  }

  // y of token t, for any W.
  __device__ void convolve(int64_t t, float (&y)[kN]) const {
    load_bias(y);
#pragma unroll 4
    for (int w = 0; w < op.W; ++w) {
      float weight[kN], x[kN];
      load(op.weight + w * op.D + d, weight);
      widen(row(t - (op.W - 1) + w), x);
#pragma unroll
      for (int i = 0; i < kN; ++i) y[i] = fmaf(weight[i], x[i], y[i]);
    }
#pragma unroll
    for (int i = 0; i < kN; ++i) y[i] = silu(y[i]);
  }

  // The sequence's last rows, those first that the state itself may have held: they move to earlier places.
  __device__ void leave_state() const {
    for (int w = 0; w < op.W - 1; ++w) store(state + w * op.D + d, row(end - (op.W - 1) + w));
  }
};

}  // namespace nemotron_h::cuda
