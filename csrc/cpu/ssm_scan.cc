// Mamba-2 over whole sequences as the state space dual (Dao and Gu 2024, arXiv 2405.21060, section 6): within
// a chunk the recurrence is matrix products, and only the states between chunks follow one another.
//
//   chunk_cumsum   a_j = sum of d A up to token j of the chunk
//   chunk_state    what the chunk's tokens leave in the state: sum over j of exp(a_last - a_j) d_j x_j B_j^T
//   state_passing  state = exp(a_last) state + that
//   chunk_scan     y_i = exp(a_i) state C_i + sum over j <= i of exp(a_i - a_j) (C_i . B_j) d_j x_j + D x_i,
//                  times silu(z_i)
#include <cstring>

#include "cpu/ssm.h"
#include "ops.h"

namespace nemotron_h::cpu {
namespace {

constexpr int64_t kRows = 32;     // causal products go by blocks of rows, up to the last row's column
constexpr int64_t kPadding = 16;  // after long rows: a power of two apart they would share few cache sets

// Tokens begin to begin + Q of the packed batch, and the sizes of a head's state, [P,N].
struct Chunk {
  int64_t begin, Q, P, N;
  int64_t blocks() const { return (Q + kRows - 1) / kRows; }
  int64_t block_end(int64_t first) const { return std::min(first + kRows, Q); }
  int64_t ld() const { return N + Q + kPadding; }  // of the two operands of chunk_scan
};

// What the heads of a group share. CB is C B^T, computed as far as its blocks of rows reach.
struct Group {
  float *C, *B_transposed, *CB;  // [Q,N], [N,Q], [Q,Q]
};

// The rows of a group from `first` to the end of their block.
void group_products(const Chunk& chunk, const Tensor& B, const Tensor& C, int64_t g, int64_t first,
                    const Group& out) {
  const int64_t N = chunk.N, Q = chunk.Q, end = chunk.block_end(first);
  const Scratch scratch(N);
  for (int64_t i = first; i < end; ++i) {
    read(C, chunk.begin + i, g * N, N, out.C + i * N);
    const float* row = load(B, chunk.begin + i, g * N, N, scratch);
    for (int64_t n = 0; n < N; ++n) out.B_transposed[n * Q + i] = row[n];
  }
  const auto* B_rows = static_cast<std::byte*>(B.row_address(chunk.begin)) + g * N * size_of(B.dtype);
  simd().gemm({.M = end - first, .N = end, .K = N, .x = out.C + first * N, .ldx = N,
               .w = B_rows, .w_dtype = B.dtype, .ldw = B.row_stride, .y = out.CB + first * Q, .ldy = Q});
}

// a[j] and the steps d[j]. The sums are f64 because it is their differences that count, however small.
void chunk_cumsum(const Chunk& chunk, const Tensor& dt, int64_t h, float A, float bias, float dt_min,
                  float dt_max, double* a, float* d) {
  const Scratch scratch(1);
  double sum = 0;
  for (int64_t j = 0; j < chunk.Q; ++j) {
    d[j] = step_size(*load(dt, chunk.begin + j, h, 1, scratch), bias, dt_min, dt_max);
    a[j] = sum += static_cast<double>(d[j]) * A;
  }
}

// e[j] = exp(from - a[j]) for j < n, `from` being no earlier: strong decay gives 0, never infinity.
void decays(double from, const double* a, int64_t n, float* e) {
  for (int64_t j = 0; j < n; ++j) e[j] = static_cast<float>(from - a[j]);
  simd().exp(e, e, n);
}

// out[P,N], from the rows of dx^T [P,Q].
void chunk_state(const Chunk& chunk, const double* a, const float* dx, const Group& group, float* out) {
  const auto [begin, Q, P, N] = chunk;
  const Scratch decay(Q), decayed(P * Q);
  decays(a[Q - 1], a, Q, decay);
  for (int64_t p = 0; p < P; ++p) {
    for (int64_t j = 0; j < Q; ++j) decayed[p * Q + j] = decay[j] * dx[p * chunk.ld() + j];
  }
  simd().gemm({.M = P, .N = N, .K = Q, .x = decayed, .ldx = Q,
               .w = group.B_transposed, .w_dtype = DType::f32, .ldw = Q, .y = out, .ldy = N});
}

// state[P,N] passes the chunk; the rows that it had go to `before`.
void state_passing(const Chunk& chunk, double a_last, const float* chunk_state, float* state, float* before) {
  const int64_t N = chunk.N;
  const float decay = static_cast<float>(std::exp(a_last));
  for (int64_t p = 0; p < chunk.P; ++p, state += N, chunk_state += N, before += chunk.ld()) {
    std::copy_n(state, N, before);
    simd().scale(decay, state, state, N);
    simd().axpy(1, chunk_state, state, N);
  }
}

// Both sums as one product: [exp(a_i) C_i | exp(a_i - a_j) C_i . B_j] with rows [state | dx^T], in `right`.
void chunk_scan(const Chunk& chunk, const double* a, const Group& group, const float* right, const float* x,
                float D, const Tensor& z, int64_t h, const Tensor& y) {
  const auto [begin, Q, P, N] = chunk;
  const int64_t ld = chunk.ld();
  const Scratch left(kRows * ld), out(kRows * P), gate(P);
  for (int64_t first = 0, end; first < Q; first = end) {
    end = chunk.block_end(first);
    for (int64_t i = first; i < end; ++i) {
      float *C = left + (i - first) * ld, *CB = C + N;
      simd().scale(static_cast<float>(std::exp(a[i])), group.C + i * N, C, N);
      decays(a[i], a, i + 1, CB);
      for (int64_t j = 0; j <= i; ++j) CB[j] *= group.CB[i * Q + j];
      std::fill(CB + i + 1, CB + end, 0.f);
    }
    simd().gemm({.M = end - first, .N = P, .K = N + end, .x = left, .ldx = ld,
                 .w = right, .w_dtype = DType::f32, .ldw = ld, .y = out, .ldy = P});
    for (int64_t i = first; i < end; ++i) {
      float* row = out + (i - first) * P;
      simd().axpy(D, x + i * P, row, P);
      if (z) {
        simd().silu(load(z, begin + i, h * P, P, gate), gate, P);
        for (int64_t p = 0; p < P; ++p) row[p] *= gate[p];
      }
      store(y, begin + i, h * P, P, row);
    }
  }
}

// `n` elements of a slot from `first` on. f16 saturates.
void store_state(const Tensor& state, int64_t slot, int64_t first, int64_t n, const float* values) {
  if (state.dtype == DType::f32) return store(state, slot, first, n, values);
  const Scratch held(n);
  for (int64_t i = 0; i < n; ++i) {
    const float v = values[i];
    held[i] = v > 65504 ? 65504 : v < -65504 ? -65504 : v;
  }
  store(state, slot, first, n, held);
}

// By token, the slot that the state before it goes to, or -1: the rows (t, slot) of `saves`, checked.
std::vector<int64_t> slots_before(const Tensor& saves, const std::vector<Sequence>& batch, int64_t tokens,
                                  int64_t pool, int64_t chunk_size) {
  std::vector<int64_t> slot_before(tokens + 1, -1);
  if (!saves) return slot_before;
  std::vector<bool> ends(tokens + 1), named(pool);
  for (const Sequence& s : batch) {
    named[s.slot] = true;
    for (int64_t n = 1; n <= s.length(); ++n)
      ends[s.begin + n] = n == s.length() || (s.past + n) % chunk_size == 0;
  }
  for (int64_t e = 0, before = 0; e < saves.size(0); ++e) {
    const int64_t t = saves.row<int32_t>(e)[0], slot = saves.row<int32_t>(e)[1];
    const auto found = [&](int column, int64_t value) {
      return "saves[" + std::to_string(e) + "," + std::to_string(column) + "] is " + std::to_string(value);
    };
    expect(1 <= t && t <= tokens, found(0, t), "1 to " + std::to_string(tokens));
    expect(t > before, found(0, t), "more than " + std::to_string(before));
    expect(ends[t], found(0, t), "the end of a sequence or of a chunk of " + std::to_string(chunk_size));
    expect(0 <= slot && slot < pool, found(1, slot), "0 to " + std::to_string(pool - 1));
    expect(!named[slot], found(1, slot), "a slot that neither slots nor another row names");
    named[slot] = true;
    slot_before[before = t] = slot;
  }
  return slot_before;
}

}  // namespace

// Chunks end where positions are multiples of `chunk_size`: a sequence cut there computes alike. The state of
// an empty sequence stays, or becomes zero where it has no past. Inside a call states are f32.
void ssm_scan(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C,
              const Tensor& D, const Tensor& dt_bias, float dt_min, float dt_max, const Tensor& z,
              int64_t chunk_size, int64_t segment, const Tensor& offsets, const Tensor& past,
              const Tensor& slots, const Tensor& state, const Tensor& saves, const Tensor& y) {
  check_ssm(x, B, dt_min, dt_max);
  check_chunk(chunk_size, segment);
  const int64_t T = x.size(0), H = x.size(1), P = x.size(2), G = B.size(1), N = B.size(2);
  const int64_t pool = state.size(0);
  const auto batch = sequences(offsets, past, T, slots, pool);
  const auto slot_before = slots_before(saves, batch, T, pool, chunk_size);
  const Scratch states(H * P * N);

  const auto scan = [&](const Chunk& chunk, const Sequence& s) {
    const int64_t Q = chunk.Q, group_size = 2 * Q * N + Q * Q;
    const Scratch shared(G * group_size);
    const auto group = [&](int64_t g) {
      float* const C = shared + g * group_size;
      return Group{.C = C, .B_transposed = C + Q * N, .CB = C + 2 * Q * N};
    };
    parallel_for(G * chunk.blocks(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) group_products(chunk, B, C, i % G, i / G * kRows, group(i % G));
    });
    parallel_for(H, grain(Q * P * N), [&](int64_t begin, int64_t end) {
      const FlushSubnormals flush;
      std::vector<double> sums(Q);
      double* const a = sums.data();
      const Scratch d(Q), x_rows(Q * P), right(P * chunk.ld()), from_chunk(P * N);
      float* const dx = right + N;  // transposed
      for (int64_t h = begin; h < end; ++h) {
        chunk_cumsum(chunk, dt, h, A.as<float>()[h], dt_bias.as<float>()[h], dt_min, dt_max, a, d);
        for (int64_t j = 0; j < Q; ++j) {
          float* const row = x_rows + j * P;
          read(x, chunk.begin + j, h * P, P, row);
          for (int64_t p = 0; p < P; ++p) dx[p * chunk.ld() + j] = d[j] * row[p];
        }
        const Group of_head = group(h / (H / G));
        const int64_t first = h * P * N, after = chunk.begin + Q;
        float* const own = states + first;
        if (chunk.begin == s.begin && s.past == 0) std::fill_n(own, P * N, 0.f);
        else if (chunk.begin == s.begin) read(state, s.slot, first, P * N, own);
        chunk_state(chunk, a, dx, of_head, from_chunk);
        state_passing(chunk, a[Q - 1], from_chunk, own, right);
        chunk_scan(chunk, a, of_head, right, x_rows, D.as<float>()[h], z, h, y);
        if (after == s.end) store_state(state, s.slot, first, P * N, own);
        if (slot_before[after] >= 0) store_state(state, slot_before[after], first, P * N, own);
      }
    });
  };

  for (const Sequence& s : batch) {
    if (s.length() == 0 && s.past == 0)
      std::memset(state.row_address(s.slot), 0, H * P * N * size_of(state.dtype));
    for (int64_t begin = s.begin, end; begin < s.end; begin = end) {
      const int64_t position = s.past + begin - s.begin;
      end = std::min(s.end, begin + chunk_size - position % chunk_size);
      scan({begin, end - begin, P, N}, s);
    }
  }
}

}  // namespace nemotron_h::cpu
