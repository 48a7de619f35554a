// The causal depthwise convolution before the Mamba-2 scan, with its SiLU.
//
// A thread owns kPack channels over a run of tokens of one sequence, and keeps the window's rows in registers. Run 0
// alone knows the state: it reads what the first tokens need of it, then writes what the sequence leaves. Every
// sequence has a run 0, so an empty one keeps its state, or gets zeros where it has no past.
#include "cuda/batch.cuh"
#include "cuda/conv1d.cuh"
#include "cuda/ssm/pieces.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWidth = 4;  // of the window of all published models; others take a slower way
constexpr int kRun = 32;   // tokens; the W-1 rows before them are read twice
constexpr int kAhead = 4;  // rows of x that are loaded before one is used

// kN channels of a sequence, of which y is stored.
template <class T, int kN>
struct Run : Channels<T, kN> {
  using Channels<T, kN>::op, Channels<T, kN>::d, Channels<T, kN>::begin, Channels<T, kN>::state;
  using Channels<T, kN>::row;
  Rows<T> y;  // [T,D]

  __device__ void load_taps(float (&weight)[kWidth][kN], float (&bias)[kN]) const {
    this->load_bias(bias);
#pragma unroll
    for (int w = 0; w < kWidth; ++w) load(op.weight + w * op.D + d, weight[w]);
  }

  // y of token t, with whose row the window ends.
  __device__ void finish(int64_t t, const float (&weight)[kWidth][kN], const float (&bias)[kN],
                         const float (*window)[kN]) const {
    float sums[kN];
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      sums[i] = bias[i];
#pragma unroll
      for (int w = 0; w < kWidth; ++w) sums[i] = fmaf(weight[w][i], window[w][i], sums[i]);
      sums[i] = silu(sums[i]);
    }
    store(y[t] + d, sums);
  }

  // y of tokens first to last where W is kWidth.
  __device__ void convolve(int64_t first, int64_t last) const {
    Pack<T, kN> before[kWidth - 1];
    float weight[kWidth][kN], bias[kN], x[kWidth - 1 + kAhead][kN];
#pragma unroll
    for (int w = 0; w < kWidth - 1; ++w) before[w] = row(first - (kWidth - 1) + w);
    load_taps(weight, bias);
#pragma unroll
    for (int w = 0; w < kWidth - 1; ++w) widen(before[w], x[w]);
    for (int64_t t = first; t < last; t += kAhead) {
      Pack<T, kN> ahead[kAhead];
#pragma unroll
      for (int r = 0; r < kAhead; ++r) ahead[r] = load<kN>(op.x[min(t + r, last - 1)] + d);
#pragma unroll
      for (int r = 0; r < kAhead; ++r) widen(ahead[r], x[kWidth - 1 + r]);
#pragma unroll
      for (int r = 0; r < kAhead; ++r)
        if (t + r < last) finish(t + r, weight, bias, x + r);
#pragma unroll
      for (int w = 0; w < kWidth - 1; ++w)
#pragma unroll
        for (int i = 0; i < kN; ++i) x[w][i] = x[kAhead + w][i];
    }
  }

  // y and the state of a sequence of one token where W is kWidth.
  __device__ void step() const {
    Pack<T, kN> rows[kWidth];
    float weight[kWidth][kN], bias[kN], x[kWidth][kN];
#pragma unroll
    for (int w = 0; w < kWidth; ++w) rows[w] = row(begin - (kWidth - 1) + w);
    load_taps(weight, bias);
#pragma unroll
    for (int w = 1; w < kWidth; ++w) store(state + (w - 1) * op.D + d, rows[w]);
#pragma unroll
    for (int w = 0; w < kWidth; ++w) widen(rows[w], x[w]);
    finish(begin, weight, bias, x);
  }

  // y of token t, for any W.
  __device__ void convolve(int64_t t) const {
    float sums[kN];
    Channels<T, kN>::convolve(t, sums);
    store(y[t] + d, sums);
  }
};

template <class T, int kN>
__global__ void __launch_bounds__(kThreads, 3)
    conv1d_kernel(Convolution<T> op, Rows<T> y, const int32_t* offsets, const int32_t* past, const int32_t* slots,
                  int sequences, int run, Faults faults) {
  wait_for_previous_launch();
  if (faults.pending()) return;
  const int64_t d = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kN;
  if (d >= op.D) return;
  const Piece piece = find_piece(offsets, sequences, blockIdx.x, run, 1);
  const int s = piece.sequence;
  const Run<T, kN> channels{{op, d, offsets[s], offsets[s + 1], op.of_slot(slots[s]), past[s] == 0}, y};
  const int64_t first = channels.begin + piece.index * run, last = min(first + run, channels.end);
  if (op.W == kWidth && first < last) {
    channels.convolve(first, last);
  } else {
    for (int64_t t = first; t < last; ++t) channels.convolve(t);
  }
  if (piece.index == 0) channels.leave_state();
}

template <class T, int kN>
__global__ void __launch_bounds__(kThreads)
    conv1d_step_kernel(Convolution<T> op, Rows<T> y, const int32_t* past, const int32_t* slots, int64_t pool,
                       Faults faults) {
  wait_for_previous_launch();
  const int s = blockIdx.x;
  const bool fresh = past[s] == 0;
  const int64_t slot = decode_slot(past, slots, s, pool, faults);
  const int64_t d = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kN;
  if (slot < 0 || d >= op.D) return;
  const Run<T, kN> channels{{op, d, s, s + 1, op.of_slot(slot), fresh}, y};
  if (op.W == kWidth) return channels.step();
  channels.convolve(s);
  channels.leave_state();
}

// f.template operator()<T, kN>(convolution, the blocks that its channels take)
template <class F>
void with_convolution(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& state, const Tensor& y,
                      F f) {
  const int64_t W = weight.size(0), D = weight.size(1);
  with_act(x.dtype, [&]<class T>() {
    const Convolution<T> op{rows<const T>(x), weight.as<float>(), bias.as<float>(), state.as<T>(),
                            static_cast<int>(W), D};
    with_packs(packs(D, x, weight, bias, state, y), [&]<int kN>() {
      f.template operator()<T, kN>(op, static_cast<unsigned>(ceil_div(D, kThreads * kN)));
    });
  });
}

}  // namespace

void causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& offsets,
                   const Tensor& past, const Tensor& slots, const Tensor& state, const Tensor& y) {
  const int64_t S = past.size(0), run = std::max<int64_t>(kRun, weight.size(0) - 1);  // so that run 1 needs no state
  check_sequences(offsets, past, x.size(0), slots, state.size(0));
  with_convolution(x, weight, bias, state, y, [&]<class T, int kN>(const Convolution<T>& op, unsigned blocks) {
    const auto runs = static_cast<unsigned>(count_pieces(x.size(0), S, run, 1));
    launch(conv1d_kernel<T, kN>, {.grid = {runs, blocks}, .block = kThreads}, op, rows<T>(y),
           offsets.as<int32_t>(), past.as<int32_t>(), slots.as<int32_t>(), static_cast<int>(S), static_cast<int>(run), faults());
  });
}

void causal_conv1d_step(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& past,
                        const Tensor& slots, const Tensor& state, const Tensor& y) {
  with_convolution(x, weight, bias, state, y, [&]<class T, int kN>(const Convolution<T>& op, unsigned blocks) {
    launch(conv1d_step_kernel<T, kN>, {.grid = {static_cast<unsigned>(x.size(0)), blocks}, .block = kThreads}, op,
           rows<T>(y), past.as<int32_t>(), slots.as<int32_t>(), state.size(0), faults());
  });
}

}  // namespace nemotron_h::cuda
