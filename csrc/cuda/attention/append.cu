// New keys and values into the paged cache. A warp copies a token, of which every lane has kAhead accesses to each of
// the two in flight.
#include "cuda/attention/pages.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kAhead = 4;

// width: of a token, in units.
template <class Unit>
__global__ void __launch_bounds__(kThreads)
    append_kernel(Rows<const Unit> k, Rows<const Unit> v, int64_t tokens, int width, PagedBatch batch, Unit* k_cache,
                  Unit* v_cache, Faults faults) {
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

}  // namespace

void kv_append(const Tensor& k, const Tensor& v, const Tensor& pages, const Tensor& offsets, const Tensor& past,
               const Tensor& k_cache, const Tensor& v_cache) {
  const int64_t T = k.size(0);
  const PagedBatch batch = paged_batch(pages, offsets, past, k_cache);
  check_sequences(offsets, past, T);
  check_pages_written(batch, k_cache.size(0));

  const auto append = [&]<class Unit>() {
    const auto units = [&](int64_t elements) { return elements * size_of(k.dtype) / sizeof(Unit); };
    const auto rows = [&](const Tensor& t) {
      return Rows<const Unit>{t.as<const Unit>(), static_cast<int64_t>(units(t.row_stride))};
    };
    launch(append_kernel<Unit>,
           {.grid = static_cast<unsigned>(ceil_div(T, kThreads / kWarp)), .block = kThreads}, rows(k), rows(v), T,
           static_cast<int>(units(k.row_size())), batch, k_cache.as<Unit>(), v_cache.as<Unit>(), faults());
  };
  if (packs(k.row_size(), k, v, k_cache, v_cache)) append.template operator()<uint4>();
  else with_act(k.dtype, append);
}

}  // namespace nemotron_h::cuda
