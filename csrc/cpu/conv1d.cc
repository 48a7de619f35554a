// The causal depthwise convolution before the Mamba-2 scan, with its SiLU.
//
// Work is cut by sequence and block of channels. A piece walks its tokens in order with the last W rows of
// its channels in a ring, which begins as the state and ends as it, however few tokens there are: none leave
// the state as it is, or zero where there is no past.
#include "cpu/ssm.h"
#include "ops.h"

namespace nemotron_h::cpu {
namespace {

constexpr int64_t kChannels = 256;  // of a block: the ring and the weights of W = 4 fill a quarter of L1

// Channels first to first + n of one sequence.
void convolve(const Tensor& x, const Tensor& weight, const Tensor& bias, const Sequence& sequence,
              int64_t first, int64_t n, const Tensor& state, const Tensor& y) {
  const int64_t W = weight.size(0), D = weight.size(1);
  const Scratch ring(W * n), sums(n);
  const auto row = [&](int64_t t) { return ring + t % W * n; };  // t counts from the state's oldest

  for (int64_t t = 0; t < W - 1; ++t) {
    if (sequence.past == 0) std::fill_n(row(t), n, 0.f);
    else read(state, sequence.slot, t * D + first, n, row(t));
  }
  for (int64_t t = 0; t < sequence.length(); ++t) {
    read(x, sequence.begin + t, first, n, row(t + W - 1));
    if (bias) std::copy_n(bias.as<float>() + first, n, sums.data());
    else std::fill_n(sums.data(), n, 0.f);
    for (int64_t w = 0; w < W; ++w) {
      const float *a = weight.row<float>(w) + first, *b = row(t + w);
      for (int64_t i = 0; i < n; ++i) sums[i] += a[i] * b[i];
    }
    simd().silu(sums, sums, n);
    store(y, sequence.begin + t, first, n, sums);
  }
  for (int64_t t = 0; t < W - 1; ++t) {
    store(state, sequence.slot, t * D + first, n, row(sequence.length() + t));
  }
}

void convolve(const Tensor& x, const Tensor& weight, const Tensor& bias, const std::vector<Sequence>& batch,
              const Tensor& state, const Tensor& y) {
  const int64_t W = weight.size(0), D = weight.size(1);
  const int64_t blocks = (D + kChannels - 1) / kChannels, count = static_cast<int64_t>(batch.size());
  if (count == 0) return;
  parallel_for(count * blocks, grain(W * kChannels * x.size(0) / count), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % blocks * kChannels;
      convolve(x, weight, bias, batch[i / blocks], first, std::min(kChannels, D - first), state, y);
    }
  });
}

}  // namespace

void causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& offsets,
                   const Tensor& past, const Tensor& slots, const Tensor& state, const Tensor& y) {
  convolve(x, weight, bias, sequences(offsets, past, x.size(0), slots, state.size(0)), state, y);
}

void causal_conv1d_step(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& past,
                        const Tensor& slots, const Tensor& state, const Tensor& y) {
  convolve(x, weight, bias, decode_sequences(past, slots, state.size(0)), state, y);
}

}  // namespace nemotron_h::cpu
