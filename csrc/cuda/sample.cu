// Draws a token from each row of logits, as the CPU backend does: one number of the row's own stream
// (Philox), held against cumulative weights by falling probability under top-k or top-p, else by id.
//
// A block takes a row. Top-k, top-p and the draw are one question, asked of other sums: which token passes a
// target?
#include <bit>

#include "checks.h"
#include "cuda/logits.cuh"
#include "ops.h"
#include "random.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kChunks = 1024;

// In [0, 2^53): the upper bits of the first two words of Philox 4x32-10 at (step, 0, 0, 0).
__device__ uint64_t draw_number(const int32_t* seed, int32_t step) {
  const RandomWords words = philox<10>({static_cast<uint32_t>(step), 0, 0, 0}, static_cast<uint32_t>(seed[0]),
                                       static_cast<uint32_t>(seed[1]));
  return (uint64_t{words.v[0]} << 32 | words.v[1]) >> 11;
}

// The share `number` / 2^53 of `mass`, rounded down; below `mass`.
__device__ uint64_t share(uint64_t number, uint64_t mass) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(number) * mass >> 53);
}

// Probabilities over that of the likeliest, in units of 1 / one: V of them and their sums fit 64 bits.
struct Weights {
  float largest, scale, one;  // scale: log2(e) / temperature

  // 0 also for NaN, and for what is less likely than min_p.
  __device__ uint64_t mass(float logit, float min_p = 0) const {
    const float below = logit == largest ? 0 : (logit - largest) * scale;
    const float weight = below <= 0 ? exp2f(below) : 0;
    return weight < min_p ? 0 : static_cast<uint64_t>(weight * one);
  }
};

// By id: chunks are as many as can be searched, and a warp sums one at a time.
__device__ int64_t draw_by_id(const Row& row, const Weights& weights, float min_p, uint64_t number) {
  auto& masses = shared<uint64_t[kChunks], struct Chunks>();
  constexpr int64_t kStep = kWarp * kPack;
  const int64_t chunk = kStep * ceil_div(row.V, kStep * kChunks), chunks = ceil_div(row.V, chunk);
  const int lane = threadIdx.x % kWarp;
  uint64_t all = 0;
  for (int64_t c = threadIdx.x / kWarp; c < chunks; c += blockDim.x / kWarp) {
    uint64_t mass = 0;
    for (int64_t i = c * chunk + lane * kPack; i < min(row.V, (c + 1) * chunk); i += kStep) {
      float v[kPack];
      row.pack(i, v);
#pragma unroll
      for (int j = 0; j < kPack; ++j) mass += weights.mass(v[j], min_p);
    }
    all += mass;
#pragma unroll
    for (int by = kWarp / 2; by; by /= 2) mass += __shfl_xor_sync(kAllLanes, mass, by);
    if (lane == 0) masses[c] = mass;
  }
  const uint64_t target = share(number, sum(all));
  const Place c = find(static_cast<int>(chunks), target, [&](int i) { return masses[i]; });
  const int64_t first = c.i * chunk;
  const auto mass = [&](int i) { return weights.mass(row.logits[first + i], min_p); };
  return first + find(static_cast<int>(min(chunk, row.V - first)), target - c.before, mass).i;
}

// By falling probability. `reached`: blockDim.x tokens at least lie not below it.
__device__ int32_t draw_by_rank(const Row& row, const Weights& weights, int64_t k, float top_p, float min_p,
                                float reached, uint64_t number) {
  Range kept{0, ~Key{0}, row.V};
  if (k < row.V) {
    const Range top{k <= blockDim.x ? key_of(reached, ~0u) : 0, ~Key{0}, row.V};
    kept = {select(row, top, k - 1, [](Key) { return uint64_t{1}; }).key, ~Key{0}, k};
  }
  const auto mass = [&](Key key) { return weights.mass(logit_of(key)); };
  const auto mass_of_kept = [&](float min_p) {
    uint64_t all = 0;
    row.tokens(kept, [&](Key key) { all += weights.mass(logit_of(key), min_p); });
    return sum(all);
  };
  uint64_t held = mass_of_kept(top_p < 1 ? 0 : min_p);
  if (top_p < 1) {
    const auto needed = static_cast<uint64_t>(ceil(double{top_p} * static_cast<double>(held)));
    const uint64_t least = (held - needed) / row.V;  // what is lighter adds up to less than may be left out
    const Selected last = select(row, kept, needed - 1, [&](Key key) {
      const uint64_t m = mass(key);
      return m < least ? 0 : m;
    });
    kept.lowest = last.key;
    held = min_p > 0 ? mass_of_kept(min_p) : last.through;
  }
  return id_of(select(row, kept, share(number, held), mass).key);  // min_p leaves out the last
}

__global__ void __launch_bounds__(kRowThreads)
    sample_kernel(const float* logits, int64_t V, bool packed, float one, const float* temperatures,
                  const int32_t* top_ks, const float* top_ps, const float* min_ps, const int32_t* seed,
                  const int32_t* step, int32_t* ids, Faults faults) {
  wait_for_previous_launch();
  const int64_t s = blockIdx.x;
  const float temperature = temperatures[s], top_p = top_ps[s], min_p = min_ps[s];
  const int32_t top_k = top_ks[s];
  const bool heated = temperature >= 0 && temperature < INFINITY;
  if (!require(heated, Rule::finite_from_0, Name::temperature, s, temperature, faults)) return;
  if (top_k < 0) {
    if (threadIdx.x == 0) faults.report(Rule::not_negative, Name::top_k, top_k, 0, s);
    return;
  }
  if (!require(top_p > 0 && top_p <= 1, Rule::above_0_to_1, Name::top_p, s, top_p, faults) ||
      !require(min_p >= 0 && min_p <= 1, Rule::from_0_to_1, Name::min_p, s, min_p, faults))
    return;

  const Row row{logits + s * V, V, packed};
  float maximum = -INFINITY;
  int64_t id = threadIdx.x * kPack;  // of the first that reaches it
  row.packs([&](const float (&v)[kPack], int64_t i) {
#pragma unroll
    for (int j = 0; j < kPack; ++j)
      if (v[j] > maximum) maximum = v[j], id = i + j;
  });
  const Key likeliest = largest(key_of(maximum, static_cast<uint32_t>(id)));
  const Weights weights{logit_of(likeliest), 1.44269504f / temperature, one};

  int64_t drawn = id_of(likeliest);
  if (temperature != 0 && weights.largest != -INFINITY) {
    const uint64_t number = draw_number(seed + 2 * s, step[s]);
    const int64_t k = top_k == 0 ? V : min(int64_t{top_k}, V);
    if (k == V && top_p == 1) drawn = draw_by_id(row, weights, min_p, number);
    else drawn = draw_by_rank(row, weights, k, top_p, min_p, -largest(-maximum), number);
  }
  if (threadIdx.x == 0) ids[s] = static_cast<int32_t>(drawn);
}

}  // namespace

void sample(const Tensor& logits, const Tensor& temperature, const Tensor& top_k, const Tensor& top_p,
            const Tensor& min_p, const Tensor& seed, const Tensor& step, const Tensor& ids) {
  const int64_t S = logits.size(0), V = logits.size(1);
  check_vocabulary(S, V);
  const float one = std::ldexp(1.f, 63 - std::bit_width(static_cast<uint64_t>(V)));
  launch(sample_kernel, {.grid = static_cast<unsigned>(S), .block = row_threads(V)}, logits.as<float>(), V,
         packs(V, logits), one, temperature.as<float>(), top_k.as<int32_t>(), top_p.as<float>(),
         min_p.as<float>(), seed.as<int32_t>(), step.as<int32_t>(), ids.as<int32_t>(), faults());
}

}  // namespace nemotron_h::cuda
