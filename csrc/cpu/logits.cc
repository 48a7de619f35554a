// The ops on logits around the draw: what has been said before, penalties and biases, log-probabilities.
#include "cpu/logits.h"

#include "ops.h"

namespace nemotron_h::cpu {
namespace {

// log(sum(exp(row))), NaN where the row holds NaN or has no finite maximum.
double log_sum_exp(const float* row, int64_t V) {
  const Scratch terms(V);
  const float largest = simd().max(row, V);
  for (int64_t i = 0; i < V; ++i) terms[i] = row[i] - largest;
  simd().exp(terms, terms, V);
  double sum = 0;
  for (int64_t i = 0; i < V; ++i) sum += terms[i];
  return largest + std::log(sum);
}

}  // namespace

void count_tokens(const Tensor& ids, const Tensor& offsets, const Tensor& past, const Tensor& slots,
                  bool generated, const Tensor& history) {
  const int64_t V = history.size(1);
  const auto list = sequences(offsets, past, ids.size(0), slots, history.size(0));
  check_indices("ids", ids, V);
  parallel_for(list.size(), grain(V), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      int32_t* counts = history.row<int32_t>(list[s].slot);
      if (list[s].past == 0) std::fill_n(counts, V, 0);
      for (int64_t t = list[s].begin; t < list[s].end; ++t) {
        int32_t& count = counts[ids.as<int32_t>()[t]];
        count = generated ? count + 2 : count | 1;
      }
    }
  });
}

void penalize(const Tensor& logits, const Tensor& history, const Tensor& slots, const Tensor& repetition,
              const Tensor& frequency, const Tensor& presence) {
  const auto finite = [](float value) { return std::isfinite(value); };
  check_indices("slots", slots, history.size(0));
  check_parameter<float>("repetition", repetition, "a finite number above 0",
                         [](float value) { return value > 0 && std::isfinite(value); });
  check_parameter<float>("frequency", frequency, "a finite number", finite);
  check_parameter<float>("presence", presence, "a finite number", finite);

  const int64_t V = logits.size(1);
  parallel_for(logits.size(0), grain(V), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const float r = repetition.as<float>()[s], f = frequency.as<float>()[s], p = presence.as<float>()[s];
      if (r == 1 && f == 0 && p == 0) continue;
      float* row = logits.row<float>(s);
      const int32_t* seen = history.row<int32_t>(slots.as<int32_t>()[s]);
      for (int64_t i = 0; i < V; ++i) {
        if (seen[i] == 0) continue;
        row[i] = row[i] > 0 ? row[i] / r : row[i] * r;
        const int32_t count = seen[i] / 2;
        if (count > 0) row[i] -= f * static_cast<float>(count) + p;
      }
    }
  });
}

void bias_logits(const Tensor& logits, const Tensor& offsets, const Tensor& ids, const Tensor& bias) {
  const int32_t* o = offsets.as<int32_t>();
  const int64_t S = logits.size(0), E = ids.size(0);
  const auto check = [&](int64_t i, bool ok, const std::string& expected) {
    if (!ok)
      throw std::out_of_range("offsets[" + std::to_string(i) + "] is " + std::to_string(o[i]) +
                              ", expected " + expected);
  };
  check(0, o[0] == 0, "0");
  check(S, o[S] == E, std::to_string(E) + ", the number of ids");
  for (int64_t s = 0; s < S; ++s) check(s + 1, o[s + 1] >= o[s], "at least " + std::to_string(o[s]));
  check_indices("ids", ids, logits.size(1));

  for (int64_t s = 0; s < S; ++s) {
    float* row = logits.row<float>(s);
    for (int64_t e = o[s]; e < o[s + 1]; ++e) row[ids.as<int32_t>()[e]] += bias.as<float>()[e];
  }
}

void log_probs(const Tensor& logits, const Tensor& ids, const Tensor& y) {
  const int64_t V = logits.size(1);
  check_indices("ids", ids, V);
  parallel_for(logits.size(0), grain(V), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const float* row = logits.row<float>(s);
      y.as<float>()[s] = static_cast<float>(row[ids.as<int32_t>()[s]] - log_sum_exp(row, V));
    }
  });
}

void top_log_probs(const Tensor& logits, int64_t count, const Tensor& ids, const Tensor& values) {
  const int64_t V = logits.size(1);
  check_count(count, V);
  parallel_for(logits.size(0), grain(V), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const float* row = logits.row<float>(s);
      const double total = log_sum_exp(row, V);
      Ranking ranking(row, V);
      for (int64_t i = 0; i < count; ++i) {
        const int32_t id = ids.row<int32_t>(s)[i] = ranking[i];
        values.row<float>(s)[i] = static_cast<float>(row[id] - total);
      }
    }
  });
}

}  // namespace nemotron_h::cpu
