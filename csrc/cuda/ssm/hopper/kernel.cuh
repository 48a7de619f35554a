// The fused scan (docs/kernels/ssm.md has a picture): a block walks the chunks of a head, whose state stays in registers.
//
// The first warpgroup produces: a thread of its warp 0 loads x and panels of 64 columns of C and B by TMA, its warp 1
// computes what is known of the tokens before any product. The other two consume: each has 64 of the chunk's 128 rows
// of y, and every second 64 rows of the state, transposed, [N,P]. For the products with C the state is in shared memory
// once more, as bf16, where both write their rows, and from where both read all.
//
// The weight of token j in y_i is exp(a_i - a_j) d_j, a being the sums of d A. Below the diagonal of 16 x 16 blocks it is
// exp(a_i - a_J) times exp(a_J - a_j) d_j, where J is the last token of j's block: neither factor exceeds d_j, however
// strong the decay, and a chunk has few of them.
#pragma once

#include "cuda/pipeline.cuh"
#include "cuda/ssm/hopper/scan.cuh"
#include "cuda/ssm/step_size.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

namespace nemotron_h::cuda::ssm::hopper {

inline constexpr int kRow = 128;               // bytes of a row of a tile in shared memory: 64 elements
inline constexpr int kPanel = kChunk * kRow;   // bytes
inline constexpr int kThreads = 3 * 128, kConsumers = 2 * 128;
inline constexpr int kSharedMemory = 227 << 10;

// Of a chunk's tokens and a head; tokens after its end have a step of 0. Exponents are of 2.
struct Steps {
  float d[kChunk];
  float high[kChunk], low[kChunk];  // a in two parts: it is its differences that count, however small
  float in_block[kChunk];           // exp(a - a_j) d_j, a being that of the last token of j's block of 16;
  float in_chunk[kChunk];           // of the chunk
  float decay;                      // exp(a) of the last token
  int save;                         // the slot where the state after the chunk goes too, or -1
  int leave;                        // the slot where it goes if this is the item's last, or -1

  __device__ float exp_between(int from, int to) const {
    return ex2_approx_ftz((high[to] - high[from]) + (low[to] - low[from]));
  }
};

template <int kP, int kN>
struct Shared {
  static constexpr int kWide = (kP + 63) / 64, kPitch = 2 * kP + 16;
  static constexpr int kOthers = kWide * (2 * kPanel + kN * kRow) + 8 * 16 * kPitch + 2 * sizeof(Steps) + 256;
  static constexpr int kFit = (kSharedMemory - kOthers) / (2 * kPanel), kStages = kFit < 4 ? kFit : 4;

  uint8_t x[2][kWide][kPanel];
  uint8_t state[kWide][kN * kRow];  // [N][P] of bf16
  struct {
    uint8_t C[kPanel], B[kPanel];
  } panels[kStages];
  alignas(16) uint8_t y[8][16 * kPitch];  // what a warp stores: rows apart so that eight begin in different banks
  Steps steps[2];
  uint64_t x_full[2], x_empty[2], full[kStages], empty[kStages];
};

// Named barriers of the two consuming warpgroups, by which of them it is that has come so far.
inline constexpr unsigned kHasRead = 1, kHasWritten = 3, kCleared = 5;

// ---- the producers

// kStatesOnly: no C.
template <bool kStatesOnly, int kP, int kN>
__device__ void load_tiles(Shared<kP, kN>& s, const TensorMap& x, const TensorMap& B, const TensorMap& C,
                           const Scan& scan, int cluster, int rank) {
  Turn<2> x_turn;
  Turn<Shared<kP, kN>::kStages> turn;
  for_items<kStatesOnly>(scan, cluster, rank, [&](const Item& item) {
    const int column = item.h / (scan.H / scan.G) * kN;
    for_chunks(scan, item, [&](int token, int, bool) {
      uint64_t* const x_full = &s.x_full[x_turn.stage];
      mbarrier_wait(&s.x_empty[x_turn.stage], x_turn.parity ^ 1);
      mbarrier_arrive_expect_tx(x_full, sizeof s.x[0]);
#pragma unroll
      for (int i = 0; i < s.kWide; ++i)
        cp_async_bulk_tensor_2d_load(s.x[x_turn.stage][i], x, item.h * kP + 64 * i, token, x_full);
      x_turn.next();

#pragma unroll 1
      for (int k = 0; k < kN / 64; ++k, turn.next()) {
        auto& panel = s.panels[turn.stage];
        uint64_t* const full = &s.full[turn.stage];
        mbarrier_wait(&s.empty[turn.stage], turn.parity ^ 1);
        mbarrier_arrive_expect_tx(full, kStatesOnly ? sizeof panel.B : sizeof panel);
        const int n = column + 64 * k;
        if (cluster == 1) {
          if (!kStatesOnly) cp_async_bulk_tensor_2d_load(panel.C, C, n, token, full);
          cp_async_bulk_tensor_2d_load(panel.B, B, n, token, full);
        } else if (kStatesOnly ? rank == k % 2 : rank == 1) {  // of a pair each loads half for both
          cp_async_bulk_tensor_2d_load_multicast(panel.B, B, n, token, full, 3);
        } else if (!kStatesOnly) {
          cp_async_bulk_tensor_2d_load_multicast(panel.C, C, n, token, full, 3);
        }
      }
    });
  });
}

// A warp, of which each lane has four neighbouring tokens.
template <bool kStatesOnly, int kP, int kN>
__device__ void compute_steps(Shared<kP, kN>& s, const Scan& scan, int cluster, int rank) {
  constexpr int kEach = kChunk / kWarp;
  const int lane = threadIdx.x % kWarp;
  Turn<2> turn;
  for_items<kStatesOnly>(scan, cluster, rank, [&](const Item& item) {
    const double A = scan.A[item.h] * 1.4426950408889634;  // log2(e)
    const float bias = scan.dt_bias[item.h];
    for_chunks(scan, item, [&](int token, int length, bool last) {
      bf16 dt[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) dt[i] = scan.dt[token + min(lane * kEach + i, length - 1)][item.h];
      float d[kEach];
      double a[kEach], sum = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        d[i] = lane * kEach + i < length ? step_size(widen(dt[i]), bias, scan.dt_min, scan.dt_max) : 0;
        a[i] = sum += d[i] * A;
      }
#pragma unroll
      for (int by = 1; by < kWarp; by *= 2) {
        const double earlier = __shfl_up_sync(kAllLanes, sum, by);
        if (lane >= by) sum += earlier;
      }
      const double earlier = __shfl_up_sync(kAllLanes, sum, 1);
      const double in_block = __shfl_sync(kAllLanes, sum, lane | 3), in_chunk = __shfl_sync(kAllLanes, sum, kWarp - 1);
      const bool leaves = !kStatesOnly && !(last && item.passed);
      const int save = leaves ? save_slot(scan.saves, scan.E, token + length) : -1;
      const int leave = leaves && item.last ? scan.slots[item.s] : -1;

      mbarrier_wait(&s.x_empty[turn.stage], turn.parity ^ 1);
      Steps& steps = s.steps[turn.stage];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int j = lane * kEach + i;
        const double total = (lane == 0 ? 0 : earlier) + a[i];
        const float high = static_cast<float>(total);
        steps.d[j] = d[i];
        steps.high[j] = high, steps.low[j] = static_cast<float>(total - high);
        steps.in_block[j] = ex2_approx_ftz(static_cast<float>(in_block - total)) * d[i];
        steps.in_chunk[j] = ex2_approx_ftz(static_cast<float>(in_chunk - total)) * d[i];
      }
      if (lane == 0) {
        steps.decay = ex2_approx_ftz(static_cast<float>(in_chunk));
        steps.save = save, steps.leave = leave;
      }
      __syncwarp();
      if (lane == 0) mbarrier_arrive(&s.x_full[turn.stage]);
      turn.next();
    });
  });
}

// ---- the consumers: kHalf is 0 or 1, the rows of y that the warpgroup has

// Which rows of the state it has: 64 of every 128, 16 for each warp.
template <int kHalf, int kP, int kN>
struct State {
  static constexpr int kSlabs = (kN / 64 + 1 - kHalf) / 2;
  float sums[kSlabs > 0 ? kSlabs : 1][kP / 2];

  // f(element, its place in [P,N])
  template <class F>
  __device__ void each(F f) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % 4;
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab)
#pragma unroll
      for (int i = 0; i < kP / 2; ++i) {
        const int n = 64 * (kHalf + 2 * slab) + 16 * warp + lane / 4 + i / 2 % 2 * 8;
        const int p = i / 4 * 8 + lane % 4 * 2 + i % 2;
        f(sums[slab][i], p * kN + n);
      }
  }

  // In shared memory as bf16, where the other warpgroup has read what was there before.
  __device__ void publish(Shared<kP, kN>& s) const {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % 4;
    const int row = 64 * kHalf + 16 * warp + lane % 16, swizzled = row * kRow + (lane / 16 ^ row % 8) * 16;
    bar_sync(kHasRead + 1 - kHalf, kConsumers);
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab)
#pragma unroll
      for (int j = 0; j < kP / 8; j += 2) {  // 16 rows by 16 of P
        const float(&d)[kP / 2] = sums[slab];
        const uint32_t pairs[] = {bf16_pair(d[4 * j], d[4 * j + 1]), bf16_pair(d[4 * j + 2], d[4 * j + 3]),
                                  bf16_pair(d[4 * j + 4], d[4 * j + 5]), bf16_pair(d[4 * j + 6], d[4 * j + 7])};
        stmatrix_x4(&s.state[j / 8][128 * slab * kRow + (swizzled ^ j % 8 * 16)], pairs);
      }
    fence_proxy_async();
    bar_arrive(kHasWritten + kHalf, kConsumers);
  }
};

// Rows of x after the chunk's end are of other sequences, or of nobody, and may be anything: they become 0.
template <int kWide>
__device__ void clear_rest(uint8_t (&x)[kWide][kPanel], int length) {
  for (int i = threadIdx.x - 128; i < kWide * kPanel / 16; i += kConsumers)
    if (i / 8 % kChunk >= length) reinterpret_cast<uint4*>(x)[i] = {};
  fence_proxy_async();
  bar_sync(kCleared, kConsumers);
}

// x [tokens,P] as the right operand of a product whose sums are over tokens, from token 16 t on.
__device__ inline uint64_t x_operand(const uint8_t* x, int t) {
  return advance(matrix_descriptor(x, kPanel), t * 16 * kRow);
}

// B^T by a chunk's tokens, in registers: 16 rows for each warp.
using Decayed = uint32_t[kChunk / 16][4];

// sums = sums + (in_chunk B)^T x: what a chunk adds to 64 rows of the state. Under way when this returns, with
// `decayed` as an operand. Tokens after the chunk's end count as zero, whatever B is there.
template <int kSums>
__device__ void update_state(float (&sums)[kSums], Decayed& decayed, const Steps& steps, const uint8_t* B,
                             const uint8_t* x, int length) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % 4;
#pragma unroll
  for (int t = 0; t < kChunk / 16; ++t) {
    const int token = 16 * t + lane / 16 * 8 + lane % 8, pack = 2 * warp + lane / 8 % 2;
    ldmatrix_x4_trans(decayed[t], B + token * kRow + (pack ^ token % 8) * 16);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int j = 16 * t + e / 2 * 8 + lane % 4 * 2;
      const float low = __uint_as_float(decayed[t][e] << 16), high = __uint_as_float(decayed[t][e] & 0xffff0000);
      decayed[t][e] = bf16_pair(low * steps.in_chunk[j], high * steps.in_chunk[j + 1]);
    }
  }
  if (length < kChunk) {  // apart, as masks are more instructions than all that is above
#pragma unroll
    for (int t = 0; t < kChunk / 16; ++t)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int j = 16 * t + e / 2 * 8 + lane % 4 * 2;
        decayed[t][e] &= (j < length ? 0xffff : 0) | (j + 1 < length ? 0xffff0000 : 0);
      }
  }
  wgmma_fence();
#pragma unroll
  for (int t = 0; t < kChunk / 16; ++t) wgmma<false>(sums, decayed[t], x_operand(x, t), true);
  wgmma_commit_group();
}

// The products C . B of a warp's 16 rows and 16 columns, weighed: an operand of the product with x. `row` is the lane's
// first, column0 the block's first.
__device__ inline void weigh(const float* scores, const Steps& steps, int row, int column0, uint32_t (&weights)[4]) {
  const int lane = threadIdx.x % kWarp, block = row / 16 * 16;
  float weighed[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) weighed[i] = 0;
  if (column0 < block) {
    const float of_row[2] = {steps.exp_between(column0 + 15, row), steps.exp_between(column0 + 15, row + 8)};
#pragma unroll
    for (int i = 0; i < 8; ++i)
      weighed[i] = scores[i] * (of_row[i / 2 % 2] * steps.in_block[column0 + i / 4 * 8 + lane % 4 * 2 + i % 2]);
  } else if (column0 == block) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int token = row + i / 2 % 2 * 8, j = column0 + i / 4 * 8 + lane % 4 * 2 + i % 2;
      if (j <= token) weighed[i] = scores[i] * (steps.exp_between(j, token) * steps.d[j]);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) weights[i] = bf16_pair(weighed[2 * i], weighed[2 * i + 1]);
}

template <int kHalf, int kP, int kN>
__device__ void consume(Shared<kP, kN>& s, const Scan& scan, int cluster, int rank) {
  constexpr int kPanels = kN / 64, kBlocks = 4 * (kHalf + 1), kStages = Shared<kP, kN>::kStages;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % 4;
  const int row = 64 * kHalf + 16 * warp + lane / 4;  // and row + 8
  // Once a warp, to every block that wrote the stage.
  const auto release = [&](int stage) {
    __syncwarp();  // all lanes have read it
    if (lane < cluster) mbarrier_arrive_cluster(mapa(&s.empty[stage], lane));
  };
  Turn<2> x_turn;
  Turn<kStages> turn;
  State<kHalf, kP, kN> state;

  bar_arrive(kHasRead + kHalf, kConsumers);  // nothing is there to be read
  for_items<false>(scan, cluster, rank, [&](const Item& item) {
    const float D = scan.D[item.h];
    const auto of_slot = [&](int slot) { return (static_cast<int64_t>(slot) * scan.H + item.h) * (kP * kN); };
    const auto store_state = [&](int slot) {
      const int64_t first = of_slot(slot);
      state.each([&](float& v, int at) { scan.state.store(first + at, v); });
    };
    int leave = -1;
    if (scan.segment) {
      const float* const before = scan.before + (static_cast<int64_t>(item.piece) * scan.H + item.h) * (kP * kN);
      state.each([&](float& v, int at) { v = before[at]; });
    } else {
      const int slot = scan.slots[item.s];
      const int64_t own = of_slot(slot);
      state.each([&](float& v, int at) { v = item.begin == 0 ? 0 : scan.state.load(own + at); });
      if (item.end == 0) leave = slot;  // no token was before, and none is here
    }
    if (item.begin < item.end) state.publish(s);

    for_chunks(scan, item, [&](int token, int length, bool last) {
      const Steps& steps = s.steps[x_turn.stage];
      auto& x = s.x[x_turn.stage];
      mbarrier_wait(&s.x_full[x_turn.stage], x_turn.parity);
      if (length < kChunk) clear_rest(x, length);

      state.each([&](float& v, int) { v *= steps.decay; });
      float scores[8 * kBlocks], y[kP / 2];
      Decayed decayed;
      int previous = 0;
#pragma unroll
      for (int k = 0; k < kPanels; ++k) {
        const auto& panel = s.panels[turn.stage];
        const uint64_t C = matrix_descriptor(panel.C + 64 * kHalf * kRow), B = matrix_descriptor(panel.B);
        const uint64_t of_state = matrix_descriptor(s.state[0] + 64 * k * kRow, kN * kRow);
        mbarrier_wait(&s.full[turn.stage], turn.parity);
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < 4; ++i) wgmma<bf16, bf16>(scores, advance(C, 32 * i), advance(B, 32 * i), k + i > 0);
        if (k == 0) bar_sync(kHasWritten + 1 - kHalf, kConsumers);  // the state is there
#pragma unroll
        for (int i = 0; i < 4; ++i)
          wgmma<bf16, bf16, true, false>(y, advance(C, 32 * i), advance(of_state, 16 * kRow * i), k + i > 0);
        wgmma_commit_group();
        if (k % 2 == kHalf) {
          if (k > 1) wgmma_wait_group<2>();  // the operand of the slab before has been read
          update_state(state.sums[k / 2], decayed, steps, panel.B, x[0], length);
        }
        if (k > 0) {
          wgmma_wait_group<2>();  // the panel before has been read
          release(previous);
        }
        previous = turn.stage;
        turn.next();
      }
      // An update of the state may go on meanwhile, if registers hold its operand and what comes next.
      constexpr int kLeft = kP <= 64 && (kPanels - 1) % 2 == kHalf;
      wgmma_wait_group<kLeft>(scores);
      wgmma_wait_group<kLeft>(y);
      release(previous);
      bar_arrive(kHasRead + kHalf, kConsumers);

      uint32_t weights[kBlocks][4];
#pragma unroll
      for (int t = 0; t < kBlocks; ++t) weigh(scores + 8 * t, steps, row, 16 * t, weights[t]);
      const float decay[2] = {ex2_approx_ftz(steps.high[row] + steps.low[row]),
                              ex2_approx_ftz(steps.high[row + 8] + steps.low[row + 8])};
#pragma unroll
      for (int i = 0; i < kP / 2; ++i) y[i] *= decay[i / 2 % 2];
      wgmma_fence();
#pragma unroll
      for (int t = 0; t < kBlocks; ++t) wgmma<false>(y, weights[t], x_operand(x[0], t), true);
      wgmma_commit_group();

#pragma unroll
      for (auto& slab : state.sums) wgmma_wait_group<1>(slab);
      leave = steps.leave;
      if (const int slot = steps.save; slot >= 0) store_state(slot);
      if (!last) state.publish(s);

      wgmma_wait_group<0>(y);
      uint8_t* const staged = s.y[kHalf * 4 + warp];
#pragma unroll
      for (int j = 0; j < kP / 8; j += 2) {
        uint32_t pairs[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int pack = j + i / 2, token_row = row + i % 2 * 8;
          const auto at = &x[pack / 8][token_row * kRow + (pack % 8 ^ token_row % 8) * 16 + lane % 4 * 4];
          float v[2], z[2];
          widen(*reinterpret_cast<const Pack<bf16, 2>*>(at), v);
#pragma unroll
          for (int e = 0; e < 2; ++e) v[e] = fmaf(D, v[e], y[4 * j + 2 * i + e]);
          if (scan.z.data && token_row < length) {
            load(scan.z[token + token_row] + item.h * kP + pack * 8 + lane % 4 * 2, z);
#pragma unroll
            for (int e = 0; e < 2; ++e) v[e] *= silu(z[e]);
          }
          pairs[i] = bf16_pair(v[0], v[1]);
        }
        stmatrix_x4(staged + lane % 16 * s.kPitch + (j + lane / 16) * 16, pairs);
      }
      __syncwarp();  // y is staged, x and the steps have been read
      if (lane == 0) mbarrier_arrive(&s.x_empty[x_turn.stage]);
      x_turn.next();
      for (int i = lane; i < 16 * kP / 8; i += kWarp) {
        const int r = i / (kP / 8), pack = i % (kP / 8), of_chunk = 64 * kHalf + 16 * warp + r;
        if (of_chunk < length)
          st_global_v4(reinterpret_cast<uint4*>(scan.y[token + of_chunk] + item.h * kP) + pack,
                       *reinterpret_cast<const uint4*>(staged + r * s.kPitch + pack * 16));
      }  // all lanes have read them before they come together to give back the next panel
    });
    if (leave >= 0) store_state(leave);
  });
  bar_sync(kHasRead + 1 - kHalf, kConsumers);  // as many waits as arrivals
}

// What each segment makes of a state of zero, and how much it leaves of any.
template <int kHalf, int kP, int kN>
__device__ void consume_states(Shared<kP, kN>& s, const Scan& scan, int cluster, int rank) {
  const int lane = threadIdx.x % kWarp;
  Turn<2> x_turn;
  Turn<Shared<kP, kN>::kStages> turn;
  State<kHalf, kP, kN> state;
  for_items<true>(scan, cluster, rank, [&](const Item& item) {
    float decay = 1;
    Decayed decayed;
    state.each([](float& v, int) { v = 0; });
    for_chunks(scan, item, [&](int, int length, bool) {
      const Steps& steps = s.steps[x_turn.stage];
      auto& x = s.x[x_turn.stage];
      mbarrier_wait(&s.x_full[x_turn.stage], x_turn.parity);
      if (length < kChunk) clear_rest(x, length);
      state.each([&](float& v, int) { v *= steps.decay; });
#pragma unroll
      for (int k = 0; k < kN / 64; ++k) {
        mbarrier_wait(&s.full[turn.stage], turn.parity);
        if (k % 2 == kHalf) {
          if (k > 1) wgmma_wait_group<0>();  // the operand of the slab before has been read
          update_state(state.sums[k / 2], decayed, steps, s.panels[turn.stage].B, x[0], length);
        }
        __syncwarp();  // B is in registers
        if (lane < cluster) mbarrier_arrive_cluster(mapa(&s.empty[turn.stage], lane));
        turn.next();
      }
#pragma unroll
      for (auto& slab : state.sums) wgmma_wait_group<0>(slab);
      decay *= steps.decay;
      __syncwarp();  // the steps have been read
      if (lane == 0) mbarrier_arrive(&s.x_empty[x_turn.stage]);
      x_turn.next();
    });
    const int64_t number = static_cast<int64_t>(item.piece) * scan.H + item.h;
    float* const before = scan.before + number * (kP * kN);
    state.each([&](float& v, int at) { before[at] = v; });
    if (kHalf == 0 && threadIdx.x % 128 == 0) scan.decay[number] = decay;
  });
}

template <bool kStatesOnly, int kP, int kN>
__global__ void __launch_bounds__(kThreads, 1)
    scan_kernel(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap B,
                const __grid_constant__ TensorMap C, const __grid_constant__ Scan scan, int cluster) {
#ifdef NEMOTRON_H_SM90A
  wait_for_previous_launch();
  if (scan.faults.pending()) return;
  auto& s = *static_cast<Shared<kP, kN>*>(dynamic_smem());
  const int rank = cluster_ctarank();
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) mbarrier_init(&s.x_full[i], 2), mbarrier_init(&s.x_empty[i], kConsumers / kWarp);
    for (int i = 0; i < s.kStages; ++i)
      mbarrier_init(&s.full[i], 1), mbarrier_init(&s.empty[i], kConsumers / kWarp * cluster);
    fence_mbarrier_init();
  }
  barrier_cluster_arrive();
  barrier_cluster_wait();  // the barriers of both blocks are there

  const int warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    setmaxnreg_dec<56>();
    if (threadIdx.x == 0) load_tiles<kStatesOnly>(s, x, B, C, scan, cluster, rank);
    else if (threadIdx.x / kWarp == 1) compute_steps<kStatesOnly>(s, scan, cluster, rank);
    __syncwarp();
  } else {
    setmaxnreg_inc<224>();
    if constexpr (kStatesOnly) {
      if (warpgroup == 1) consume_states<0>(s, scan, cluster, rank);
      else consume_states<1>(s, scan, cluster, rank);
    } else {
      if (warpgroup == 1) consume<0>(s, scan, cluster, rank);
      else consume<1>(s, scan, cluster, rank);
    }
  }

  barrier_cluster_arrive();
  barrier_cluster_wait();  // the other block may still arrive at barriers here
#endif
}

template <int kP, int kN>
void run(const Inputs& in) {
  const TensorMap x = tensor_map(in.x, kChunk), B = tensor_map(in.B, kChunk), C = tensor_map(in.C, kChunk);
  const unsigned cluster = in.scan.H / in.scan.G % 2 == 0 && current().processors > 1 ? 2 : 1;
  const int64_t items = int64_t{in.scan.pieces} * in.scan.H, at_once = current().processors / cluster * cluster;
  const Shape shape{.grid = static_cast<unsigned>(std::min(items, at_once)), .block = kThreads,
                    .smem = sizeof(Shared<kP, kN>), .cluster = cluster};
  if (in.scan.segment) {
    launch(scan_kernel<true, kP, kN>, shape, x, B, C, in.scan, static_cast<int>(cluster));
    pass_states(in.scan, kP * kN);
  }
  launch(scan_kernel<false, kP, kN>, shape, x, B, C, in.scan, static_cast<int>(cluster));
}

}  // namespace nemotron_h::cuda::ssm::hopper
