// Draws a token from each row of logits.
//
// A row's draw is one number of its own stream (Philox has no state, so nothing depends on what ran before),
// held against cumulative weights in f64 in a fixed order: by falling probability under top-k or top-p, else
// by id, which needs no sorting.
#include "cpu/logits.h"
#include "ops.h"
#include "random.h"

namespace nemotron_h::cpu {
namespace {

// In [0, 1): the upper 53 bits of the stream's first two words.
double uniform(const int32_t* seed, int32_t step) {
  const RandomWords words = philox<10>({static_cast<uint32_t>(step), 0, 0, 0}, static_cast<uint32_t>(seed[0]),
                                       static_cast<uint32_t>(seed[1]));
  return static_cast<double>((uint64_t{words.v[0]} << 32 | words.v[1]) >> 11) * 0x1p-53;
}

// The i < n at which the cumulative weight passes the share `uniform` of all of it; weight 0 is never drawn.
// A double below 1 times the sum stays below the sum, so the walk ends.
template <class Weight>
int64_t draw(int64_t n, double uniform, Weight weight) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += weight(i);
  const double target = uniform * sum;
  int64_t i = 0;
  for (double reached = weight(0); reached <= target; reached += weight(i)) ++i;
  return i;
}

struct Choice {
  float temperature;
  int64_t top_k;
  float top_p, min_p;
};

// NaN counts as -inf; a row of nothing else gives token 0.
int64_t sample_row(const float* logits, int64_t V, const Choice& choice, double uniform) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const float largest = simd().max(logits, V);
  if (largest == kLowest) return 0;
  if (choice.temperature == 0) return std::find(logits, logits + V, largest) - logits;

  const Scratch weights(V);  // probabilities over that of the likeliest
  for (int64_t i = 0; i < V; ++i) {
    const float below = logits[i] == largest ? 0 : (logits[i] - largest) / choice.temperature;
    weights[i] = std::isnan(below) ? kLowest : below;
  }
  simd().exp(weights, weights, V);

  const int64_t k = choice.top_k == 0 ? V : std::min(choice.top_k, V);
  if (k == V && choice.top_p == 1)
    return draw(V, uniform, [&](int64_t i) { return weights[i] < choice.min_p ? 0 : weights[i]; });

  Ranking ranking(logits, V);
  const auto weight = [&](int64_t i) { return weights[ranking[i]]; };
  int64_t kept = k;
  if (choice.top_p < 1) {
    double total = 0, held = 0;
    for (int64_t i = 0; i < k; ++i) total += k == V ? weights[i] : weight(i);
    for (kept = 0; kept < k && held < choice.top_p * total; ++kept) held += weight(kept);
  }
  while (weight(kept - 1) < choice.min_p) --kept;  // the likeliest weighs 1
  return ranking[draw(kept, uniform, weight)];
}

}  // namespace

void sample(const Tensor& logits, const Tensor& temperature, const Tensor& top_k, const Tensor& top_p,
            const Tensor& min_p, const Tensor& seed, const Tensor& step, const Tensor& ids) {
  const int64_t S = logits.size(0), V = logits.size(1);
  check_vocabulary(S, V);
  check_parameter<float>("temperature", temperature, "a finite number, at least 0",
                         [](float value) { return value >= 0 && std::isfinite(value); });
  check_parameter<int32_t>("topK", top_k, "at least 0", [](int32_t value) { return value >= 0; });
  check_parameter<float>("topP", top_p, "above 0, at most 1",
                         [](float value) { return value > 0 && value <= 1; });
  check_parameter<float>("minP", min_p, "0 to 1", [](float value) { return value >= 0 && value <= 1; });

  parallel_for(S, grain(V), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const Choice choice{temperature.as<float>()[s], top_k.as<int32_t>()[s], top_p.as<float>()[s],
                          min_p.as<float>()[s]};
      const double share = uniform(seed.row<int32_t>(s), step.as<int32_t>()[s]);
      ids.as<int32_t>()[s] = static_cast<int32_t>(sample_row(logits.row<float>(s), V, choice, share));
    }
  });
}

}  // namespace nemotron_h::cpu
