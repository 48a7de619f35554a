// Rows of logits: a block passes over a row as often as it must, and finds in it the token at some rank.
//
// Two ideas. A token is one integer that sorts as the row does, so ranks are exact and ties fall by id. And
// what is summed on the way to a token is an integer too, a count or a weight in fixed point: sums are exact
// in any order, so atomics do not disturb the bits, and a target below the sum of all is passed by one token.
#pragma once

#include "cuda/rows.cuh"

namespace nemotron_h::cuda {

inline constexpr int kRowThreads = 1024;  // at most; as many as a row has packs

// The logit above, so mapped that integers and floats have one order (NaN as -inf, -0 as 0), ~id below.
using Key = uint64_t;

__device__ inline Key key_of(float logit, uint32_t id) {
  const uint32_t bits = __float_as_uint(logit != logit ? -INFINITY : logit + 0.f);
  return Key{bits >> 31 ? ~bits : bits | 1u << 31} << 32 | ~id;
}
__device__ inline float logit_of(Key key) {
  const uint32_t ordered = key >> 32;
  return __uint_as_float(ordered >> 31 ? ordered & ~(1u << 31) : ~ordered);
}
__device__ inline int32_t id_of(Key key) { return static_cast<int32_t>(~static_cast<uint32_t>(key)); }

struct Range {
  Key lowest, highest;
  int64_t count;  // of the tokens from lowest to highest there are no more
};

// Gives back `ok`, after a report where it is false. All threads of a block call it, for row s.
__device__ inline bool require(bool ok, Rule rule, Name name, int64_t s, double number, Faults faults) {
  if (!ok && threadIdx.x == 0) faults.report(rule, name, s, number);
  return ok;
}

struct Row {
  const float* logits;
  int64_t V;
  bool packed;  // every pack begins where it can be read at once

  // kPack logits from token i on; those past the end are -inf, below all that are.
  __device__ void pack(int64_t i, float (&v)[kPack]) const {
    if (packed) return load(logits + i, v);
#pragma unroll
    for (int j = 0; j < kPack; ++j) v[j] = i + j < V ? logits[i + j] : -INFINITY;
  }
  // f(pack, its first token) for the packs of this thread.
  template <class F>
  __device__ void packs(F f) const {
    for (int64_t i = threadIdx.x * kPack; i < V; i += blockDim.x * kPack) {
      float v[kPack];
      pack(i, v);
      f(v, i);
    }
  }
  // f(key) for those of this thread's tokens that lie in the range. Most that do not are told by their logit.
  template <class F>
  __device__ void tokens(const Range& range, F f) const {
    // NaN, which nothing is above or below, where the range has no end.
    const float lowest = logit_of(range.lowest), highest = logit_of(range.highest);
    packs([&](const float (&v)[kPack], int64_t i) {
#pragma unroll
      for (int j = 0; j < kPack; ++j) {
        if (v[j] < lowest || v[j] > highest) continue;
        const Key key = key_of(v[j], static_cast<uint32_t>(i) + j);
        if (range.lowest <= key && key <= range.highest) f(key);
      }
    });
  }
};

inline unsigned row_threads(int64_t V) { return threads_for(ceil_div(V, kPack), 1, kRowThreads); }

// Tags of shared memory. Declared here: each instance of a template would declare its own.
struct Folded;
struct Scanned;
struct Found;
struct Keys;
struct Masses;
struct Listed;
struct Digits;
struct Token;

// ---- over a block of any number of whole warps

// Of 4 or 8 bytes; the same in every thread, whatever the schedule.
template <class T, class Op>
__device__ T fold(T v, T nothing, Op op) {
  auto& of_warp = shared<T[kWarp], Folded>();
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int by = kWarp / 2; by; by /= 2) v = op(v, __shfl_xor_sync(kAllLanes, v, by));
  __syncthreads();  // the fold before has been read
  if (lane == 0) of_warp[threadIdx.x / kWarp] = v;
  __syncthreads();
  v = lane < static_cast<int>(blockDim.x / kWarp) ? of_warp[lane] : nothing;
#pragma unroll
  for (int by = kWarp / 2; by; by /= 2) v = op(v, __shfl_xor_sync(kAllLanes, v, by));
  return v;
}
__device__ inline uint64_t sum(uint64_t v) {
  return fold(v, uint64_t{0}, [](uint64_t a, uint64_t b) { return a + b; });
}
__device__ inline Key largest(Key v) {
  return fold(v, Key{0}, [](Key a, Key b) { return a < b ? b : a; });
}
__device__ inline float largest(float v) {
  return fold(v, -INFINITY, [](float a, float b) { return fmaxf(a, b); });
}

// The sum of `v` in the threads before this one. A second call needs a barrier between.
__device__ inline uint64_t sum_before(uint64_t v) {
  auto& of_warp = shared<uint64_t[kWarp], Scanned>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  uint64_t through = v;
#pragma unroll
  for (int by = 1; by < kWarp; by *= 2) {
    const uint64_t other = __shfl_up_sync(kAllLanes, through, by);
    if (lane >= by) through += other;
  }
  if (lane == kWarp - 1) of_warp[warp] = through;
  __syncthreads();
  uint64_t before = lane < warp ? of_warp[lane] : 0;
#pragma unroll
  for (int by = kWarp / 2; by; by /= 2) before += __shfl_xor_sync(kAllLanes, before, by);
  return before + through - v;
}

struct Place {
  int i;
  uint64_t before;  // the mass of all before i
};

// The i < n at which the mass of 0, 1, ... passes `target`, which is below that of all.
template <class Mass>
__device__ Place find(int n, uint64_t target, Mass mass) {
  auto& found = shared<Place, Found>();
  const int threads = blockDim.x, each = (n + threads - 1) / threads;
  const int first = min(n, static_cast<int>(threadIdx.x) * each), last = min(n, first + each);
  uint64_t own = 0;
  for (int i = first; i < last; ++i) own += mass(i);
  uint64_t before = sum_before(own);
  if (before <= target && target - before < own) {
    int i = first;
    for (uint64_t m; (m = mass(i)) <= target - before; ++i) before += m;
    found = {i, before};
  }
  __syncthreads();
  return found;
}

// ---- selection: by falling key, and by the sum of mass(key), a weight or 1; tokens of mass 0 do not count

inline constexpr int kDigit = 11, kBins = 1 << kDigit;
inline constexpr int kListed = 512;  // so many tokens are ranked by comparing each with each

struct Bins {
  uint32_t count[kBins], low[kBins], high[kBins];

  // Shared memory adds 32 bits at a time. The carry makes the sum that of all masses, whoever comes first.
  __device__ void add(int bin, uint64_t mass) {
    atomicAdd(&count[bin], 1u);
    const uint32_t part = static_cast<uint32_t>(mass), was = atomicAdd(&low[bin], part);
    const uint32_t carried = static_cast<uint32_t>(mass >> 32) + (was + part < was);
    if (carried) atomicAdd(&high[bin], carried);
  }
  __device__ uint64_t mass(int bin) const { return uint64_t{high[bin]} << 32 | low[bin]; }
};

// f(key, mass, ahead) for the tokens of a range of at most kListed, each in a thread; ahead is the mass of
// those before it.
template <class Mass, class F>
__device__ void ranked(const Row& row, const Range& range, Mass mass, F f) {
  auto& keys = shared<Key[kListed], Keys>();
  auto& masses = shared<uint64_t[kListed], Masses>();
  auto& listed = shared<int, Listed>();
  if (threadIdx.x == 0) listed = 0;
  __syncthreads();
  row.tokens(range, [&](Key key) {
    const uint64_t m = mass(key);
    if (m == 0) return;
    const int i = atomicAdd(&listed, 1);
    keys[i] = key, masses[i] = m;
  });
  __syncthreads();
  for (int i = threadIdx.x; i < listed; i += blockDim.x) {
    uint64_t ahead = 0;
    for (int j = 0; j < listed; ++j) ahead += keys[j] > keys[i] ? masses[j] : 0;
    f(keys[i], masses[i], ahead);
  }
  __syncthreads();
}

struct Selected {
  Key key;
  uint64_t through;  // the mass of this token and all before it
};

// The token at which the mass of the range passes `target`, which is below that of all: digit by digit of the
// key, from the highest on, until few enough tokens are left.
template <class Mass>
__device__ Selected select(const Row& row, Range range, uint64_t target, Mass mass) {
  static_assert(kListed >= 1 << 9, "the digits at 53, 42, 31, 20 and 9 leave at most 2^9 keys");
  auto& bins = shared<Bins, Digits>();
  auto& found = shared<Selected, Token>();
  Key base = 0;  // the digits so far
  uint64_t before = 0;
  for (int shift = 64 - kDigit; range.count > kListed; shift -= kDigit) {
    for (int bin = threadIdx.x; bin < kBins; bin += blockDim.x)
      bins.count[bin] = bins.low[bin] = bins.high[bin] = 0;
    __syncthreads();
    row.tokens(range, [&](Key key) {
      const uint64_t m = mass(key);
      if (m) bins.add(static_cast<int>((key - base) >> shift), m);
    });
    __syncthreads();
    const Place place = find(kBins, target - before, [&](int i) { return bins.mass(kBins - 1 - i); });
    const int bin = kBins - 1 - place.i;
    before += place.before;
    base += static_cast<Key>(bin) << shift;
    range = {max(range.lowest, base), min(range.highest, base + ((Key{1} << shift) - 1)), bins.count[bin]};
    __syncthreads();  // the bins have been read
  }
  ranked(row, range, mass, [&](Key key, uint64_t m, uint64_t ahead) {
    if (before + ahead <= target && target - before - ahead < m) found = {key, before + ahead + m};
  });
  return found;
}

}  // namespace nemotron_h::cuda
