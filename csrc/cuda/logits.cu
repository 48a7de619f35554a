// The ops on logits around the draw: what has been said before, penalties and biases, log-probabilities.
#include <cfloat>

#include "checks.h"
#include "cuda/batch.cuh"
#include "cuda/logits.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 256;

// A block a sequence.
__global__ void __launch_bounds__(kRowThreads)
    count_kernel(const int32_t* ids, const int32_t* offsets, const int32_t* past, const int32_t* slots,
                 bool generated, int32_t* history, int64_t V, Faults faults) {
  wait_for_previous_launch();
  if (faults.pending()) return;
  const int64_t s = blockIdx.x;
  int32_t* counts = history + slots[s] * V;
  if (past[s] == 0)
    for (int64_t i = threadIdx.x; i < V; i += kRowThreads) counts[i] = 0;
  __syncthreads();
  for (int64_t t = offsets[s] + threadIdx.x; t < offsets[s + 1]; t += kRowThreads) {
    if (generated) atomicAdd(&counts[ids[t]], 2);
    else atomicOr(&counts[ids[t]], 1);
  }
}

// A thread a pack. What has not been said is most of a row, and costs no look at its logits.
template <int kN>
__global__ void __launch_bounds__(kThreads)
    penalize_kernel(float* logits, const int32_t* history, int64_t V, const int32_t* slots, int64_t pool,
                    const float* repetition, const float* frequency, const float* presence, Faults faults) {
  wait_for_previous_launch();
  const int64_t s = blockIdx.y;
  const int32_t slot = slots[s];
  const float r = repetition[s], f = frequency[s], p = presence[s];
  if (slot < 0 || slot >= pool) {
    if (threadIdx.x == 0) faults.report(Rule::index, Name::slots, slot, pool - 1, s);
    return;
  }
  if (!require(r > 0 && r < INFINITY, Rule::finite_above_0, Name::repetition, s, r, faults) ||
      !require(fabsf(f) < INFINITY, Rule::finite, Name::frequency, s, f, faults) ||
      !require(fabsf(p) < INFINITY, Rule::finite, Name::presence, s, p, faults))
    return;
  if (r == 1 && f == 0 && p == 0) return;

  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kN;
  if (i >= V) return;
  const auto seen = *reinterpret_cast<const Pack<int32_t, kN>*>(history + slot * V + i);
  bool any = false;
#pragma unroll
  for (int j = 0; j < kN; ++j) any |= seen.v[j] != 0;
  if (!any) return;
  float v[kN];
  load(logits + s * V + i, v);
#pragma unroll
  for (int j = 0; j < kN; ++j) {
    if (seen.v[j] == 0) continue;
    v[j] = v[j] > 0 ? v[j] / r : v[j] * r;
    const int32_t count = seen.v[j] / 2;
    if (count > 0) v[j] -= f * static_cast<float>(count) + p;
  }
  store(logits + s * V + i, v);
}

// A block a row, kThreads of its entries at a time: the first of them that names a token adds for all that
// do, in order.
__global__ void __launch_bounds__(kThreads)
    bias_kernel(float* logits, int64_t V, const int32_t* offsets, const int32_t* ids, const float* bias,
                Faults faults) {
  wait_for_previous_launch();
  if (faults.pending()) return;
  auto& token = shared<int32_t[kThreads], struct Tokens>();
  auto& by = shared<float[kThreads], struct Biases>();
  float* row = logits + blockIdx.x * V;
  const int i = threadIdx.x, end = offsets[blockIdx.x + 1];
  for (int begin = offsets[blockIdx.x]; begin < end; begin += kThreads) {
    const int n = min(kThreads, end - begin);
    if (i < n) token[i] = ids[begin + i], by[i] = bias[begin + i];
    __syncthreads();
    bool first = i < n;
    for (int j = 0; first && j < i; ++j) first = token[j] != token[i];
    if (first) {
      float logit = row[token[i]];
      for (int j = i; j < n; ++j)
        if (token[j] == token[i]) logit += by[j];
      row[token[i]] = logit;
    }
    __syncthreads();
  }
}

// log(sum(exp(row))), NaN where the row holds NaN or has no finite maximum, and the smallest of the threads'
// maxima: blockDim.x tokens at least lie not below it. One pass, each thread against its own running maximum.
__device__ double log_sum_exp(const Row& row, float& reached) {
  float maximum = -FLT_MAX;
  double sum = 0;
  row.packs([&](const float (&v)[kPack], int64_t) {
    float top = v[0], e[kPack];
#pragma unroll
    for (int j = 1; j < kPack; ++j) top = fmaxf(top, v[j]);
    if (top > maximum) sum *= expf(maximum - top), maximum = top;
#pragma unroll
    for (int j = 0; j < kPack; ++j) e[j] = expf(v[j] - maximum);
    sum += ((e[0] + e[1]) + (e[2] + e[3])) + ((e[4] + e[5]) + (e[6] + e[7]));
  });
  const float over_all = largest(maximum);
  reached = -largest(maximum > -FLT_MAX ? -maximum : INFINITY);
  sum *= expf(maximum - over_all);
  return over_all + log(fold(sum, 0.0, [](double a, double b) { return a + b; }));
}

__global__ void __launch_bounds__(kRowThreads)
    log_probs_kernel(const float* logits, int64_t V, bool packed, const int32_t* ids, float* y,
                     Faults faults) {
  wait_for_previous_launch();
  const int64_t s = blockIdx.x;
  const int32_t id = ids[s];
  if (id < 0 || id >= V) {
    if (threadIdx.x == 0) faults.report(Rule::index, Name::ids, id, V - 1, s);
    return;
  }
  const Row row{logits + s * V, V, packed};
  float reached;
  const double total = log_sum_exp(row, reached);
  if (threadIdx.x == 0) y[s] = static_cast<float>(row.logits[id] - total);
}

// kListed ranks at a time, each time those below the last.
__global__ void __launch_bounds__(kRowThreads)
    top_log_probs_kernel(const float* logits, int64_t V, bool packed, int64_t count, int32_t* ids,
                         float* values) {
  wait_for_previous_launch();
  const Row row{logits + blockIdx.x * V, V, packed};
  ids += blockIdx.x * count, values += blockIdx.x * count;
  float reached;
  const double total = log_sum_exp(row, reached);
  const int64_t at_once = min(kListed, static_cast<int>(blockDim.x));
  const auto one = [](Key) { return uint64_t{1}; };
  Range range{key_of(reached, ~0u), ~Key{0}, V};  // holds blockDim.x tokens at least
  for (int64_t done = 0; done < count; done += at_once) {
    const int64_t n = min(at_once, count - done);
    const Key last = select(row, range, n - 1, one).key;
    ranked(row, {last, range.highest, n}, one, [&](Key key, uint64_t, uint64_t rank) {
      ids[done + rank] = id_of(key);
      values[done + rank] = static_cast<float>(row.logits[id_of(key)] - total);
    });
    range = {0, last - 1, V - done - n};
  }
}

}  // namespace

void count_tokens(const Tensor& ids, const Tensor& offsets, const Tensor& past, const Tensor& slots,
                  bool generated, const Tensor& history) {
  check_sequences(offsets, past, ids.size(0), slots, history.size(0));
  check_indices(Name::ids, ids, history.size(1));
  launch(count_kernel, {.grid = static_cast<unsigned>(past.size(0)), .block = kRowThreads}, ids.as<int32_t>(),
         offsets.as<int32_t>(), past.as<int32_t>(), slots.as<int32_t>(), generated, history.as<int32_t>(),
         history.size(1), faults());
}

void penalize(const Tensor& logits, const Tensor& history, const Tensor& slots, const Tensor& repetition,
              const Tensor& frequency, const Tensor& presence) {
  const int64_t S = logits.size(0), V = logits.size(1);
  with_packs(packs(V, logits, history), [&]<int kN>() {
    launch(penalize_kernel<kN>, {.grid = dim3(ceil_div(V, kN * kThreads), S), .block = kThreads},
           logits.as<float>(), history.as<int32_t>(), V, slots.as<int32_t>(), history.size(0),
           repetition.as<float>(), frequency.as<float>(), presence.as<float>(), faults());
  });
}

void bias_logits(const Tensor& logits, const Tensor& offsets, const Tensor& ids, const Tensor& bias) {
  const int64_t S = logits.size(0), V = logits.size(1);
  check_offsets(offsets, ids.size(0), Name::ids);
  check_indices(Name::ids, ids, V);
  launch(bias_kernel, {.grid = static_cast<unsigned>(S), .block = kThreads}, logits.as<float>(), V,
         offsets.as<int32_t>(), ids.as<int32_t>(), bias.as<float>(), faults());
}

void log_probs(const Tensor& logits, const Tensor& ids, const Tensor& y) {
  const int64_t S = logits.size(0), V = logits.size(1);
  launch(log_probs_kernel, {.grid = static_cast<unsigned>(S), .block = row_threads(V)}, logits.as<float>(), V,
         packs(V, logits), ids.as<int32_t>(), y.as<float>(), faults());
}

void top_log_probs(const Tensor& logits, int64_t count, const Tensor& ids, const Tensor& values) {
  const int64_t S = logits.size(0), V = logits.size(1);
  check_count(count, V);
  launch(top_log_probs_kernel, {.grid = static_cast<unsigned>(count ? S : 0), .block = row_threads(V)},
         logits.as<float>(), V, packs(V, logits), count, ids.as<int32_t>(), values.as<float>());
}

}  // namespace nemotron_h::cuda
