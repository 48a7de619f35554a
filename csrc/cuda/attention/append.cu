// New keys and values into the paged cache: as they are, or rotated and quantised on their way.
#include "checks.h"
#include "cuda/attention/pages.cuh"
#include "cuda/rotation.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kAhead = 4;

// A warp copies a token, of which every lane has kAhead accesses to each of the two in flight. width: of a token, in
// units.
template <class Unit>
__global__ void __launch_bounds__(kThreads)
    copy_kernel(Rows<const Unit> k, Rows<const Unit> v, int64_t tokens, int width, PagedBatch batch, Unit* k_cache,
                  Unit* v_cache, Faults faults) {
  wait_for_previous_launch();
  if (faults.pending()) return;
  const int64_t t = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (t >= tokens) return;
  const int s = find_sequence(batch.offsets, batch.sequences, t);
  const int64_t to = batch.place(s, batch.past[s] + static_cast<int>(t - batch.offsets[s])) * width;
  for (int begin = threadIdx.x % kWarp; begin < width; begin += kWarp * kAhead) {
    Unit key[kAhead], value[kAhead];
#pragma unroll
    for (int n = 0; n < kAhead; ++n) {
      const int i = begin + n * kWarp;
      if (i < width) key[n] = k[t][i], value[n] = v[t][i];
    }
#pragma unroll
    for (int n = 0; n < kAhead; ++n) {
      const int i = begin + n * kWarp;
      if (i < width) k_cache[to + i] = key[n], v_cache[to + i] = value[n];
    }
  }
}

struct Changes {
  const float *inv_freq, *k_scale, *v_scale;  // [P/2], [G], [G]; null where keys are not rotated or nothing is scaled
};

// A block takes a token of `groups` heads of P elements.
template <class E, class C, int kN>
__global__ void __launch_bounds__(kThreads)
    change_kernel(Rows<const E> k, Rows<const E> v, Changes changes, int groups, int P, PagedBatch batch, C* k_cache,
                  C* v_cache, Faults faults) {
  wait_for_previous_launch();
  if (faults.pending()) return;
  const int64_t t = blockIdx.x;
  const int s = find_sequence(batch.offsets, batch.sequences, t), width = groups * P;
  const int position = batch.past[s] + static_cast<int>(t - batch.offsets[s]);
  const int64_t to = batch.place(s, position) * width;
  const auto put = [&](C* cache, const float* scale, int i, float (&values)[kN]) {
    if (scale) {
      const float inverse = 1 / scale[i / P];
#pragma unroll
      for (int j = 0; j < kN; ++j) values[j] *= inverse;
    }
    store(cache + to + i, values);
  };
  const auto append = [&](const E* from, C* cache, const float* scale) {
    for (int i = threadIdx.x * kN; i < width; i += kThreads * kN) {
      float values[kN];
      load(from + i, values);
      put(cache, scale, i, values);
    }
  };
  append(v[t], v_cache, changes.v_scale);
  if (!changes.inv_freq) return append(k[t], k_cache, changes.k_scale);

  const int pairs = P / 2;
  float *cosine = static_cast<float*>(dynamic_smem()), *sine = cosine + pairs;
  compute_turns<kThreads>(changes.inv_freq, pairs, position, cosine, sine);
  __syncthreads();
  for (int i = threadIdx.x * kN; i < groups * pairs; i += kThreads * kN) {
    const int first = i / pairs * P + i % pairs;
    float a[kN], b[kN];
    load(k[t] + first, a), load(k[t] + first + pairs, b);
    rotate(cosine + i % pairs, sine + i % pairs, a, b);
    widen(narrow<E>(a), a), widen(narrow<E>(b), b);  // as rope leaves them
    put(k_cache, changes.k_scale, first, a), put(k_cache, changes.k_scale, first + pairs, b);
  }
}

}  // namespace

void kv_append(const Tensor& k, const Tensor& v, const Tensor& inv_freq, const Tensor& k_scale, const Tensor& v_scale,
               const Tensor& pages, const Tensor& offsets, const Tensor& past, const Tensor& k_cache,
               const Tensor& v_cache) {
  check_caches(k.dtype, k_cache, v_cache, k_scale, v_scale);
  if (inv_freq) check_rotation("k", k);
  const int64_t T = k.size(0), G = k.size(1), P = k.size(2);
  const PagedBatch batch = paged_batch(pages, offsets, past, k_cache);
  check_sequences(offsets, past, T);
  check_pages_written(batch, k_cache.size(0));

  if (inv_freq || k_scale) {
    const Changes changes{inv_freq.as<float>(), k_scale.as<float>(), v_scale.as<float>()};
    const auto change = [&]<class E, class C>() {
      with_packs(packs(inv_freq ? P / 2 : P, k, v, k_cache, v_cache), [&]<int kN>() {
        launch(change_kernel<E, C, kN>,
               {.grid = static_cast<unsigned>(T), .block = kThreads, .smem = inv_freq ? P * sizeof(float) : 0},
               rows<const E>(k), rows<const E>(v), changes, static_cast<int>(G), static_cast<int>(P), batch,
               k_cache.as<C>(), v_cache.as<C>(), faults());
      });
    };
    with_act(k.dtype, [&]<class E>() {
      if (k_scale) change.template operator()<E, e4m3>();
      else change.template operator()<E, E>();
    });
    return;
  }
  const auto copy = [&]<class Unit>() {
    const auto units = [&](int64_t elements) { return elements * size_of(k.dtype) / sizeof(Unit); };
    const auto rows = [&](const Tensor& t) {
      return Rows<const Unit>{t.as<const Unit>(), static_cast<int64_t>(units(t.row_stride))};
    };
    launch(copy_kernel<Unit>,
           {.grid = static_cast<unsigned>(ceil_div(T, kThreads / kWarp)), .block = kThreads}, rows(k), rows(v), T,
           static_cast<int>(units(k.row_size())), batch, k_cache.as<Unit>(), v_cache.as<Unit>(), faults());
  };
  if (packs(k.row_size(), k, v, k_cache, v_cache)) copy.template operator()<uint4>();
  else with_act(k.dtype, copy);
}

}  // namespace nemotron_h::cuda
