// Attention of many new tokens on sm_90a (docs/kernels/attention.md), after FlashAttention-3 (Shah et al.
// 2024): a persistent kernel, fed by TMA, multiplied by wgmma.
//
// The first warpgroup produces: a warp takes items from a queue and brings their queries, and tile by tile their keys
// and values from the pages, a lane for each box. Those of e4m3 are widened on their way by its other warps; bf16
// holds all of them, and their scales join those of scores and of y. The other two warpgroups consume: each has 64 of
// an item's 128 rows, and in registers the scores of a tile, the weights of the tile before as an operand, and the
// weighted sum of values. While the products of one run, the other computes weights: they take turns at the tensor
// cores.
//
// A row's bits are its own: tiles begin at multiples of 128 keys in the sequence, a tile of which a row sees nothing
// leaves it as it was (2^0 times it, plus zeros), and tiles are taken from the first, where every row sees a key.
#pragma once

#include "cuda/attention/hopper/work.cuh"
#include "cuda/attention/softmax.cuh"
#include "cuda/pipeline.cuh"
#include "cuda/wgmma.cuh"

namespace nemotron_h::cuda::paged_attention::hopper {

inline constexpr int kRow = 128;             // bytes of a row of a panel: 64 elements
inline constexpr int kPanel = kKeys * kRow;  // bytes
inline constexpr int kThreads = 3 * 128, kConsumers = 2 * 128;

// Tiles of keys and of values, in panels of 64 columns of bf16 or 128 of e4m3; what tells that they are full or empty.
template <int kStages, int kPanels>
struct Tiles {
  uint8_t k[kStages][kPanels][kPanel], v[kStages][kPanels][kPanel];
};
template <int kStages>
struct Barriers {
  uint64_t k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
};
struct Nothing {};

// KV: bf16 or e4m3, what the caches hold.
template <int kP, class KV>
struct Shared {
  static constexpr int kWide = kP / 64, kStages = 256 / kP, kPitch = 2 * kP + 16;
  static constexpr bool kWidens = std::is_same_v<KV, e4m3>;
  uint8_t q[kWide][kRows * kRow];
  Tiles<kStages, kWide> tiles;
  std::conditional_t<kWidens, Tiles<1, 1>, Nothing> stored;  // as the caches hold them
  alignas(16) uint8_t y[8][16 * kPitch];  // what a warp stores: rows apart so that eight begin in different banks
  Item item;
  uint64_t q_full, q_empty;  // the item is told with its queries
  Barriers<kStages> of_tiles;
  Barriers<1> of_stored;
};

// Named barriers of the two consuming warpgroups: whose turn it is, and that values are cleared.
inline constexpr unsigned kTurn = 1, kCleared = 3;

// ---- the producers: a warp that loads, and for e4m3 three that widen

inline constexpr int kWidening = 3;  // warps

// Into the tiles that are what the caches hold.
template <int kP, class KV, int kStages, int kPanels>
__device__ void load_tiles(Shared<kP, KV>& s, Tiles<kStages, kPanels>& to, Barriers<kStages>& barriers,
                           const TensorMap& q, const TensorMap& k, const TensorMap& v, const Work& work) {
  const int lane = threadIdx.x % kWarp, page_size = work.batch.page_size;
  // This lane's box of a tile: a panel, and the rows from `row` on, which are of one page.
  const int panel = lane % kPanels, row = lane / kPanels * min(page_size, kKeys);
  const auto load = [&](auto& stages, uint64_t* full, uint64_t* empty, Turn<kStages>& turn, const TensorMap& map,
                        int column, int place) {
    auto& stage = stages[turn.stage];
    mbarrier_wait(&empty[turn.stage], turn.parity ^ 1);
    __syncwarp();  // a lane that fell behind by two rounds would take their parity for its own
    if (lane == 0) mbarrier_arrive_expect_tx(&full[turn.stage], sizeof stage);
    if (row < kKeys)
      cp_async_bulk_tensor_2d_load(stage[panel] + row * kRow, map, column + 64 * panel, place, &full[turn.stage]);
    turn.next();
  };
  Turn<kStages> k_turn, v_turn;
  const auto load_k = [&](int column, int place) {
    load(to.k, barriers.k_full, barriers.k_empty, k_turn, k, column, place);
  };

  const bool any = has_items(work);
  for (unsigned parity = 0;; parity ^= 1) {
    const Item item = any ? next_item(work) : Item{};
    mbarrier_wait(&s.q_empty, parity ^ 1);
    if (lane == 0) {
      s.item = item;
      if (item.head < 0) {
        mbarrier_arrive(&s.q_full);
      } else {
        mbarrier_arrive_expect_tx(&s.q_full, sizeof s.q);
        for (int i = 0; i < s.kWide; ++i)
          cp_async_bulk_tensor_2d_load(s.q[i], q, item.head * kP + 64 * i, item.token, &s.q_full);
      }
    }
    if (item.head < 0) break;

    // Where the box of a tile begins in the pool. Past the sequence's last page it is that page's: any numbers will do.
    const auto place_of = [&](int tile) {
      const int position = tile * kKeys + row, last = (item.length - 1) / page_size;
      return work.batch.page(item.sequence, min(position / page_size, last)) * page_size + position % page_size;
    };
    const int column = item.head / work.heads * kP, tiles = item.tiles();
    int place = place_of(0);
    load_k(column, place);
    for (int tile = 0; tile < tiles; ++tile) {
      int next = 0;
      if (tile + 1 < tiles) {  // keys are wanted before the values of the tile before, and sooner given back
        next = place_of(tile + 1);
        load_k(column, next);
      }
      load(to.v, barriers.v_full, barriers.v_empty, v_turn, v, column, place);
      place = next;
    }
  }
}

// All that comes, in the order in which it comes. A row of e4m3 is 128 bytes, of which heads of 64 are the first half.
template <int kP>
__device__ void widen_tiles(Shared<kP, e4m3>& s, const Work& work) {
  constexpr int kStages = s.kStages, kPacks = kP / kPack;
  const int lane = threadIdx.x % kWarp, thread = threadIdx.x - kWarp;
  const auto widen_to = [&](auto& stages, uint64_t* full, uint64_t* empty, Turn<kStages>& turn,
                            const uint8_t(&stored)[kPanel], uint64_t* stored_full, uint64_t* stored_empty,
                            Turn<1>& stored_turn) {
    auto& stage = stages[turn.stage];
    mbarrier_wait(stored_full, stored_turn.parity);
    mbarrier_wait(&empty[turn.stage], turn.parity ^ 1);
#pragma unroll 4
    for (int i = thread; i < kKeys * kPacks; i += kWidening * kWarp) {
      const int row = i / kPacks, pack = i % kPacks;
      const auto from = stored + row * kRow + (pack / 2 ^ row % 8) * 16 + pack % 2 * 8;
      const auto to = stage[pack / 8] + row * kRow + (pack % 8 ^ row % 8) * 16;
      uint32_t pairs[4];
      gemm::widen(*reinterpret_cast<const uint2*>(from), work.widening, pairs);
      *reinterpret_cast<uint4*>(to) = {pairs[0], pairs[1], pairs[2], pairs[3]};
    }
    fence_proxy_async();
    __syncwarp();  // the warp has read and written
    if (lane == 0) mbarrier_arrive(stored_empty), mbarrier_arrive(&full[turn.stage]);
    turn.next(), stored_turn.next();
  };
  Turn<kStages> k_turn, v_turn;
  Turn<1> stored_k_turn, stored_v_turn;
  auto& tiles = s.of_tiles;
  auto& stored = s.of_stored;
  const auto widen_k = [&] {
    widen_to(s.tiles.k, tiles.k_full, tiles.k_empty, k_turn, s.stored.k[0][0], stored.k_full, stored.k_empty,
             stored_k_turn);
  };

  for (unsigned parity = 0;; parity ^= 1) {
    mbarrier_wait(&s.q_full, parity);
    if (s.item.head < 0) break;
    const int count = s.item.tiles();  // those who consume give the item back, and have to wait for its tiles
    widen_k();
    for (int tile = 0; tile < count; ++tile) {
      if (tile + 1 < count) widen_k();
      widen_to(s.tiles.v, tiles.v_full, tiles.v_empty, v_turn, s.stored.v[0][0], stored.v_full, stored.v_empty,
               stored_v_turn);
    }
  }
}

// ---- the consumers

// The softmax of a lane's two rows: `top` is the exponent of the largest weight so far, `total` the sum of the weights
// that the lane has seen, relative to it.
struct Softmax {
  float top[2] = {-INFINITY, -INFINITY}, total[2] = {};

  // Turns scores into weights; kept: what of all before is left. The rounded product of the largest score and the scale
  // is the exponent that all are relative to, so one FMA gives that of a weight.
  __device__ void weigh(float (&scores)[kKeys / 2], float scale, float (&kept)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = -INFINITY;
#pragma unroll
      for (int i = 0; i < kKeys / 2; ++i)
        if (i / 2 % 2 == r) largest = fmaxf(largest, scores[i]);
      const float higher = fmaxf(top[r], quad_reduce(largest, Max{}) * scale);
      kept[r] = ex2_approx_ftz(top[r] - higher);
      top[r] = higher;
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kKeys / 2; ++i)
        if (i / 2 % 2 == r) sum += scores[i] = ex2_approx_ftz(fmaf(scores[i], scale, -higher));
      total[r] = fmaf(total[r], kept[r], sum);
    }
  }
};

// Weights as operands of the product with values, 16 keys each.
using Weights = uint32_t[kKeys / 16][4];
__device__ inline void round(const float (&scores)[kKeys / 2], Weights& weights) {
#pragma unroll
  for (int t = 0; t < kKeys / 16; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i) weights[t][i] = bf16_pair(scores[8 * t + 2 * i], scores[8 * t + 2 * i + 1]);
}

// scores = q k^T: 64 rows by a tile of keys. Under way when this returns, as is the next.
template <int kWide>
__device__ void multiply_keys(float (&scores)[kKeys / 2], const uint8_t (&q)[kWide][kRows * kRow], int half,
                              const uint8_t (&k)[kWide][kPanel]) {
  wgmma_fence();
#pragma unroll
  for (int panel = 0; panel < kWide; ++panel) {
    const uint64_t of_q = matrix_descriptor(q[panel] + 64 * half * kRow), of_k = matrix_descriptor(k[panel]);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      wgmma<bf16, bf16>(scores, advance(of_q, 32 * i), advance(of_k, 32 * i), panel + i > 0);
  }
  wgmma_commit_group();
}

// sum = (sum +) weights v
template <int kSums, int kWide>
__device__ void multiply_values(float (&sum)[kSums], const Weights& weights, const uint8_t (&v)[kWide][kPanel],
                                bool accumulate) {
  wgmma_fence();
#pragma unroll
  for (int t = 0; t < kKeys / 16; ++t)
    wgmma<false>(sum, weights[t], advance(matrix_descriptor(v[0], kPanel), t * 16 * kRow), accumulate || t > 0);
  wgmma_commit_group();
}

// Values from row `from` on are zeros: whatever a page holds after the sequence's end, NaN perhaps, would be multiplied
// by weights of zero.
template <int kWide>
__device__ void clear_rest(uint8_t (&v)[kWide][kPanel], int from) {
  const int i = threadIdx.x % kConsumers;
  for (int at = i; at < kWide * kPanel / 16; at += kConsumers)
    if (at / 8 % kKeys >= from) reinterpret_cast<uint4*>(v[0])[at] = {};
  fence_proxy_async();
  bar_sync(kCleared, kConsumers);
}

// half: 0 or 1, which rows of an item the warpgroup has.
template <int kP, class KV>
__device__ void consume(Shared<kP, KV>& s, const Work& work, int half) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % 4;
  const int row = 64 * half + 16 * warp + lane / 4;  // and row + 8
  const auto release = [&](uint64_t* empty) {
    if (lane == 0) mbarrier_arrive(empty);
  };
  auto &[k, v] = s.tiles;
  auto &[k_full, k_empty, v_full, v_empty] = s.of_tiles;
  Turn<s.kStages> k_turn, v_turn;

  if (half == 1) bar_arrive(kTurn, kConsumers);  // the other begins
  for (unsigned parity = 0;; parity ^= 1) {
    mbarrier_wait(&s.q_full, parity);
    const Item item = s.item;
    if (item.head < 0) break;
    const int tiles = item.tiles(), position = item.position + row;
    // Of a negative one the scores are negated; 0 times a masked score would not be a number.
    const float signed_scale = work.scale_of_scores(item.head);
    const float scale = signed_scale == 0 ? 0x1p-126f : fabsf(signed_scale);

    float scores[kKeys / 2], sum[kP / 2], kept[2];
    Weights weights;
    Softmax softmax;
    const auto weigh = [&](int tile) {
      if (signed_scale < 0) {
#pragma unroll
        for (float& score : scores) score = -score;
      }
      const int key = tile * kKeys;
      if (key + kKeys > item.position + 64 * half + 1) {  // not every row sees all
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i)
          if (key + i / 4 * 8 + lane % 4 * 2 + i % 2 > position + i / 2 % 2 * 8) scores[i] = -INFINITY;
      }
      softmax.weigh(scores, scale, kept);
    };

    mbarrier_wait(&k_full[k_turn.stage], k_turn.parity);
    multiply_keys(scores, s.q, half, k[k_turn.stage]);
    wgmma_wait_group<0>(scores);
    release(&k_empty[k_turn.stage]);
    k_turn.next();
    weigh(0);
    round(scores, weights);

    if (tiles > 1) mbarrier_wait(&k_full[k_turn.stage], k_turn.parity);
    for (int tile = 1; tile < tiles; ++tile) {
      bar_sync(kTurn + half, kConsumers);
      multiply_keys(scores, s.q, half, k[k_turn.stage]);
      mbarrier_wait(&v_full[v_turn.stage], v_turn.parity);
      multiply_values(sum, weights, v[v_turn.stage], tile > 1);
      bar_arrive(kTurn + 1 - half, kConsumers);
      wgmma_wait_group<1>(scores);
      release(&k_empty[k_turn.stage]);
      k_turn.next();
      weigh(tile);
      // The next keys are waited for here so that the wait below begins a block of code: else ptxas has it come before
      // the weights, and no product runs beside them.
      if (tile + 1 < tiles) mbarrier_wait(&k_full[k_turn.stage], k_turn.parity);
      wgmma_wait_group<0>(sum);
      release(&v_empty[v_turn.stage]);
      v_turn.next();
      round(scores, weights);
#pragma unroll
      for (int i = 0; i < kP / 2; ++i) sum[i] *= kept[i / 2 % 2];
    }
    __syncwarp();  // all lanes have read the item, and what was staged of the one before
    release(&s.q_empty);

    auto& last = v[v_turn.stage];
    mbarrier_wait(&v_full[v_turn.stage], v_turn.parity);
    if (tiles * kKeys > item.length) clear_rest(last, item.length - (tiles - 1) * kKeys);
    multiply_values(sum, weights, last, tiles > 1);
    float inverse[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float total = quad_reduce(softmax.total[r], Sum{});
      inverse[r] = work.scale_of_values(item.head) / total;
      if (work.lse && lane % 4 == 0 && row + 8 * r < item.rows)
        work.lse[int64_t{item.token + row + 8 * r} * work.H + item.head] = log_sum(softmax.top[r], total);
    }
    wgmma_wait_group<0>(sum);
    release(&v_empty[v_turn.stage]);
    v_turn.next();

    uint8_t* const staged = s.y[4 * half + warp];
#pragma unroll
    for (int j = 0; j < kP / 8; j += 2) {  // 16 rows by 16 columns
      uint32_t pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        pairs[i] = bf16_pair(sum[4 * j + 2 * i] * inverse[i % 2], sum[4 * j + 2 * i + 1] * inverse[i % 2]);
      stmatrix_x4(staged + lane % 16 * s.kPitch + (j + lane / 16) * 16, pairs);
    }
    __syncwarp();  // the rows are staged
    for (int i = lane; i < 16 * kP / kPack; i += kWarp) {
      const int r = i / (kP / kPack), pack = i % (kP / kPack), of_item = 64 * half + 16 * warp + r;
      if (of_item >= item.rows) break;
      const auto from = reinterpret_cast<const Pack<bf16, kPack>*>(staged + r * s.kPitch) + pack;
      bf16* const to = work.y + (int64_t{item.token + of_item} * work.H + item.head) * kP + pack * kPack;
      if (work.y_packs) store(to, *from);
      else
        for (int e = 0; e < kPack; ++e) to[e] = from->v[e];
    }
  }
  if (half == 0) bar_sync(kTurn, kConsumers);  // as many waits as arrivals
}

static_assert(sizeof(Shared<128, e4m3>) <= 227 << 10 && sizeof(Shared<64, e4m3>) <= 227 << 10);

template <int kP, class KV>
__global__ void __launch_bounds__(kThreads, 1)
    attention_kernel(const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                     const __grid_constant__ TensorMap v, const __grid_constant__ Work work) {
#ifdef NEMOTRON_H_SM90A
  wait_for_previous_launch();
  if (work.faults.pending()) return;
  auto& s = *static_cast<Shared<kP, KV>*>(dynamic_smem());
  const auto init = [](auto& barriers, unsigned full, unsigned empty) {
    for (auto& barrier : barriers.k_full) mbarrier_init(&barrier, full);
    for (auto& barrier : barriers.v_full) mbarrier_init(&barrier, full);
    for (auto& barrier : barriers.k_empty) mbarrier_init(&barrier, empty);
    for (auto& barrier : barriers.v_empty) mbarrier_init(&barrier, empty);
  };
  if (threadIdx.x == 0) {
    mbarrier_init(&s.q_full, 1), mbarrier_init(&s.q_empty, kConsumers / kWarp);
    init(s.of_tiles, s.kWidens ? kWidening : 1, kConsumers / kWarp);
    if constexpr (s.kWidens) init(s.of_stored, 1, kWidening);
    fence_mbarrier_init();
  }
  __syncthreads();  // the barriers are there

  const int warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    setmaxnreg_dec<56>();
    if constexpr (s.kWidens) {
      if (threadIdx.x < kWarp) load_tiles(s, s.stored, s.of_stored, q, k, v, work);
      else widen_tiles(s, work);
    } else {
      if (threadIdx.x < kWarp) load_tiles(s, s.tiles, s.of_tiles, q, k, v, work);
    }
  } else {
    setmaxnreg_inc<224>();
    consume(s, work, warpgroup - 1);
  }
#endif
}

}  // namespace nemotron_h::cuda::paged_attention::hopper
