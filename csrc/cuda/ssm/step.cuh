// One token of the recurrence over the state of a head, which ssm_step and mamba2_step share.
//
// Its time is that of reading and writing the state, which is passed over once. Neighbouring lanes are a team, and take
// rows: a lane has 16 bytes of each of kRows rows on their way at a time, and the team adds up what its lanes have. These
// are the 32 elements that registers have room for with two blocks on an SM, which have 64 KB of f32 on their way.
#pragma once

#include <bit>

#include "cuda/rows.cuh"
#include "random.h"

namespace nemotron_h::cuda::step {

inline constexpr int kThreads = 256;
template <class E>
inline constexpr int kColumns = 16 / sizeof(E);  // 4 of f32; 8 of f16, which one call of Philox rounds
template <class E>
inline constexpr int kRows = 32 / kColumns<E>;

// How the rows of a head are shared out. Bits depend on it, and it on nothing but the sizes of a head.
struct Partition {
  int lanes;  // of a team: as many as a row takes, from 8 to a warp
  int parts;  // blocks of a head
  int rows;   // of a block
  int threads;
};
template <class E>
Partition partition(int64_t P, int64_t N) {
  const uint64_t accesses = ceil_div(N, kColumns<E>);
  const int64_t lanes = std::clamp<int64_t>(std::bit_ceil(accesses), 8, kWarp);
  const int64_t parts = std::max<int64_t>(1, ceil_div(P, kThreads / lanes * kRows<E>)), rows = ceil_div(P, parts);
  return {static_cast<int>(lanes), static_cast<int>(parts), static_cast<int>(rows),
          static_cast<int>(threads_for(ceil_div(rows, kRows<E>) * lanes, 1, kThreads))};
}

// f.template operator()<E>() by the type of the state.
template <class F>
void with_state(DType t, F f) {
  if (t == DType::f16) f.template operator()<f16>();
  else f.template operator()<float>();
}

// The rows of a head that the team of this thread has.
struct Team {
  int lanes, lane;
  int first, apart, rows;

  // Of those of a block, begin to end.
  __device__ Team(int lanes, int begin, int end)
      : lanes(lanes), lane(threadIdx.x % lanes), first(begin + threadIdx.x / lanes), apart(blockDim.x / lanes),
        rows((end - first + apart - 1) / apart) {}

  __device__ int row(int r) const { return first + r * apart; }
  // Of the results of its rows each lane takes one: that of row(lane), if it does.
  __device__ bool takes_one() const { return lane < rows; }

  // Of each row what its lanes have together, the same in every lane of the team.
  template <int kCount>
  __device__ void add_up(float (&sums)[kCount]) const {
    for (int by = lanes / 2; by; by /= 2) {
#pragma unroll
      for (int r = 0; r < kCount; ++r) sums[r] += __shfl_xor_sync(kAllLanes, sums[r], by);
    }
  }
};

// What rounds a state of f16: nothing but the place in the layer, the position and the seed.
struct Noise {
  int64_t seed;
  int32_t position;
  uint32_t first;  // the number, in the layer, of the first eight elements of the head
};
__device__ inline Pack<float, 4> rounded(const float (&v)[4], const Noise&, uint32_t) { return narrow<float>(v); }
__device__ inline Pack<f16, 8> rounded(const float (&v)[8], const Noise& noise, uint32_t eight) {
  const RandomWords words = state_noise(noise.seed, noise.position, noise.first + eight);
  Pack<f16, 8> pack;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    pack.v[2 * i] = round_randomly(v[2 * i], first_noise(words.v[i]));
    pack.v[2 * i + 1] = round_randomly(v[2 * i + 1], second_noise(words.v[i]));
  }
  return pack;
}

// kN neighbours of a row, of which `left` are in it. A lane has the same ones wherever the row begins in memory, so
// that its sums do not depend on that.
template <bool kPacks, int kN, class T>
__device__ Pack<T, kN> load_columns(const T* from, int left) {
  if constexpr (kPacks) {
    return load<kN>(from);
  } else {
    Pack<T, kN> pack{};
#pragma unroll
    for (int i = 0; i < kN; ++i)
      if (i < left) pack.v[i] = from[i];
    return pack;
  }
}
template <bool kPacks, int kN, class T>
__device__ void store_columns(T* to, int left, const Pack<T, kN>& pack) {
  if constexpr (kPacks) {
    store(to, pack);
  } else {
#pragma unroll
    for (int i = 0; i < kN; ++i)
      if (i < left) to[i] = pack.v[i];
  }
}

// The same from shared memory.
template <bool kPacks, int kN>
__device__ Pack<float, kN> shared_columns(const float* from, int left) {
  if constexpr (kPacks) return *reinterpret_cast<const Pack<float, kN>*>(from);
  else return load_columns<false, kN>(from, left);
}

// A lane's columns of the rows of its team, the next after the last.
template <class E, bool kPacks>
class Columns {
 public:
  static constexpr int kN = kColumns<E>, kRows = step::kRows<E>;

  // state: [P,N] of a head. fresh: it counts as zero. The first columns are on their way.
  __device__ Columns(const Team& team, E* state, int N, bool fresh, const Noise& noise)
      : team_(team), state_(state + static_cast<int64_t>(team.first) * N), N_(N), n_(team.lane * kN), fresh_(fresh),
        noise_(noise), eights_((N + 7) / 8) {
    noise_.first += team.first * eights_;
#pragma unroll
    for (int r = 0; r < kRows; ++r) load(r, n_);
  }

  // Where they begin; past the last, there are none.
  __device__ int n() const { return n_; }

  // state = decay state + dx B^T, and its sums with C, in these columns; and the next are on their way. dx(r) is d x of
  // row r.
  template <class OfRow>
  __device__ void update(float decay, OfRow dx, const float (&B)[kN], const float (&C)[kN]) {
    const int next = n_ + team_.lanes * kN;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float v[kN];
      const float in = dx(r);
      widen(held_[r], v);
#pragma unroll
      for (int i = 0; i < kN; ++i) {
        v[i] = fmaf(decay, v[i], in * B[i]);
        sums_[r] = fmaf(v[i], C[i], sums_[r]);
      }
      const int eight = r * team_.apart * eights_ + n_ / 8;
      if (r < team_.rows) store_columns<kPacks>(at(r, n_), N_ - n_, rounded(v, noise_, eight));
      load(r, next);
    }
    n_ = next;
  }

  // state C of the row whose result this lane takes.
  __device__ float result() {
    team_.add_up(sums_);
    float y = 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float of_row = sums_[r];  // were it read where lane == r, it would be indexed by lane: from memory
      if (team_.lane == r) y = of_row;
    }
    return y;
  }

 private:
  __device__ E* at(int r, int n) const { return state_ + (r * team_.apart * N_ + n); }
  __device__ void load(int r, int n) {
    held_[r] = {};
    if (r < team_.rows && !fresh_ && n < N_) held_[r] = load_columns<kPacks, kN>(at(r, n), N_ - n);
  }

  const Team& team_;
  E* state_;  // the team's first row
  int N_, n_;
  bool fresh_;
  Noise noise_;  // from the team's first row on
  int eights_;   // of a row
  Pack<E, kN> held_[kRows];
  float sums_[kRows] = {};
};

}  // namespace nemotron_h::cuda::step
