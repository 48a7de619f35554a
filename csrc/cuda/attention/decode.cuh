// Attention of few new tokens (bf16 on tensor cores, mma.sync: any architecture), as fast as keys and values are read.
//
// Blocks stay, and walk over their shares of all items (work.cuh): keys and values stream through a ring of stages by
// cp.async, across the edges of items. The rows of a key head, its query heads and up to kDecodeTokens tokens, are 16,
// of which four warps share keys and columns, or four times 16, with two warps each. The arithmetic is tile.cuh's, to
// the bit. Where a segment is several blocks', each leaves its parts in memory and takes a ticket; the last merges all.
#pragma once

#include "cuda/attention/softmax.cuh"
#include "cuda/attention/work.cuh"
#include "cuda/gemm/operand.cuh"
#include "cuda/scratch.cuh"

namespace nemotron_h::cuda::paged_attention {

// KV: bf16, or e4m3 with scales. Rows can be accessed 16 bytes at a time.
template <class KV>
struct DecodeProblem {
  Rows<const bf16> q;                // [T,H*P]
  const KV *k, *v;                   // [Pages*PageSize,G*P]
  const float *k_scales, *v_scales;  // [G], or null
  float* lse;                        // [T,H], or null
  bf16* y;                           // [T,H*P]
  Work work;
  int P;
  float scale;                       // of scores, log2(e) included
  gemm::Widening widening;           // of e4m3
  // Of the launch:
  int stages = 0;
  float* parts = nullptr;            // [workers,kept_parts], each Decode::kPart floats
  int kept_parts = 0;
  unsigned* tickets = nullptr;       // [workers]
};

// P <= kP; a tile is kTiles times 16 rows.
template <int kP, class KV, int kTiles>
struct Decode {
  static constexpr int kBlocks = kTiles == 1 ? 2 : 1;            // of a processor
  static constexpr int kWarps = 8 / kBlocks, kThreads = kWarps * kWarp, kRows = kTiles * kWarpRows;
  static constexpr int kKeys = 64;                               // of a stage
  static constexpr int kTeam = kWarps / kTiles;                  // warps that share 16 rows:
  static constexpr int kOwnKeys = kKeys / kTeam, kColumns = kP / kTeam;  // each has some keys and some columns
  static constexpr int kRowBytes = kP * sizeof(KV), kChunks = kRowBytes / 16;
  static constexpr int kStage = 2 * kKeys * kRowBytes;           // bytes
  static constexpr int kScoreRow = kKeys + 8, kScores = kRows * kScoreRow;  // floats; the gap keeps banks apart
  // A part as its threads have it: values, then the largest score and total of every row.
  static constexpr int kPart = kRows * kP + 2 * kRows;           // floats
  static constexpr int kMaxStages = 6;
  static constexpr int kQueries = kTiles * (kP / 16) * kWarp;    // uint4: a lane's operand for 16 columns
  static_assert(kQueries * sizeof(uint4) >= kThreads * sizeof(int64_t));  // counts before
  static size_t smem(int stages) { return stages * kStage + kScores * sizeof(float) + kQueries * sizeof(uint4); }

  // Where 16 bytes of a key or value lie in a stage: eight neighbours of one chunk in different banks.
  __device__ static int place(int row, int chunk) {
    constexpr int kRowsOfLine = kChunks < 8 ? 8 / kChunks : 1;
    return row * kRowBytes + (chunk ^ (row / kRowsOfLine) % (kChunks < 8 ? kChunks : 8)) * 16;
  }
  // From a chunk of a row to chunk ^ `by`, without a register for each: rows and stages begin at multiples of
  // kRowBytes.
  __device__ static const uint8_t* other_chunk(const uint8_t* chunk, int by) {
    return reinterpret_cast<const uint8_t*>(reinterpret_cast<uintptr_t>(chunk) ^ by * 16);
  }
};

// All but `left` of the groups of copies of this thread have come.
__device__ inline void wait_for_copies(int left) {
  if (left == 0) cp_async_wait_group<0>();
  else if (left == 1) cp_async_wait_group<1>();
  else if (left == 2) cp_async_wait_group<2>();
  else if (left == 3) cp_async_wait_group<3>();
  else cp_async_wait_group<4>();
}

// The rows of a segment, of which a thread has two.
template <int kP, class KV, int kTiles>
struct Segment {
  using D = Decode<kP, KV, kTiles>;
  int row[2];              // this thread's, from the first of the sequence in [T*H]; negative: none
  int seen[2], last_seen;  // the positions that they see last, and that any row of the warp does

  // The warps of a team share its queries [kP / 16][kWarp], which are there after a barrier.
  __device__ void enter(const DecodeProblem<KV>& p, const Cursor& at, uint4* queries) {
    const Work& work = p.work;
    const int lane = threadIdx.x % kWarp, own = at.tile * D::kRows + threadIdx.x / kWarp / D::kTeam * kWarpRows;
    const int begin = work.batch.offsets[at.s], past = work.batch.past[at.s];
    const int count = work.batch.tokens(at.s) * work.heads;
    const auto position = [&](int row) { return past + min(row, count - 1) / work.heads; };
    last_seen = own < count ? position(own + kWarpRows - 1) : -1;
    const bf16* from[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int index = own + lane / 4 + 8 * r, head = at.g * work.heads + index % work.heads;
      const int token = min(index, count - 1) / work.heads;
      row[r] = index < count ? token * work.heads * work.groups + head : -1;
      seen[r] = position(index);
      from[r] = p.q[begin + token] + head * p.P + lane % 4 * 2;
    }
#pragma unroll
    for (int i = 0; i < kP / 16 / D::kTeam; ++i) {
      const int k = i * D::kTeam + threadIdx.x / kWarp % D::kTeam;
      const auto two = [&](int r, int column) {
        return column < p.P ? *reinterpret_cast<const uint32_t*>(from[r] + column) : 0;
      };
      queries[k * kWarp + lane] = {two(0, 16 * k), two(1, 16 * k), two(0, 16 * k + 8), two(1, 16 * k + 8)};
    }
  }
};

// s = queries times the keys of a stage that are this warp's.
template <int kP, class KV, int kTiles>
__device__ void score(const DecodeProblem<KV>& p, const uint8_t* keys, const uint4* queries,
                      float (&s)[Decode<kP, KV, kTiles>::kOwnKeys / 8][4]) {
  using D = Decode<kP, KV, kTiles>;
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp % D::kTeam * D::kOwnKeys;
  const auto operand = [&](int k, uint32_t (&a)[4]) { memcpy(a, &queries[k * kWarp + lane], sizeof a); };
  if constexpr (std::is_same_v<KV, bf16>) {
    const int row = lane % 8, half = lane / 8 % 2, quarter = lane / 16;
    const uint8_t* const own = keys + D::place(first + row + 8 * quarter, half);
#pragma unroll
    for (int k = 0; k < kP / 16; ++k) {
      uint32_t a[4];
      operand(k, a);
#pragma unroll
      for (int n = 0; n < D::kOwnKeys / 16; ++n) {
        uint32_t b[4];
        ldmatrix_x4(b, D::other_chunk(own, 2 * k) + 16 * n * D::kRowBytes);
        mma_m16n8k16_bf16(s[2 * n], a, {b[0], b[1]});
        mma_m16n8k16_bf16(s[2 * n + 1], a, {b[2], b[3]});
      }
    }
  } else {
    // Of a key and 16 of its elements, 2q, +1, +8 and +9, for lane 4r+q; of the next 16 too, to widen eight at once.
    const uint32_t half = lane % 2 ? 0x7632 : 0x5410;
    const uint8_t* const own = keys + D::place(first + lane / 4, 0) + lane % 4 / 2 * 4;
#pragma unroll
    for (int k = 0; k < kP / 16; k += 2) {
      uint32_t a[2][4];
      operand(k, a[0]), operand(k + 1, a[1]);
#pragma unroll
      for (int n = 0; n < D::kOwnKeys / 8; ++n) {
        const auto four = [&](int chunk) {
          const uint8_t* from = D::other_chunk(own, chunk) + 8 * n * D::kRowBytes;
          return __byte_perm(*reinterpret_cast<const uint32_t*>(from), *reinterpret_cast<const uint32_t*>(from + 8),
                             half);
        };
        uint32_t b[4];
        gemm::widen(uint2{four(k), four(k + 1)}, p.widening, b);
        mma_m16n8k16_bf16(s[n], a[0], {b[0], b[1]});
        mma_m16n8k16_bf16(s[n], a[1], {b[2], b[3]});
      }
    }
  }
}

// sum += weights times those columns of the values of a stage that are this warp's. Of e4m3 two blocks of eight columns
// are the even and the odd ones of sixteen.
template <int kP, class KV, int kTiles>
__device__ void add_values(const DecodeProblem<KV>& p, const uint8_t* values,
                           const float (&weights)[Decode<kP, KV, kTiles>::kKeys / 8][4],
                           float (&sum)[Decode<kP, KV, kTiles>::kColumns / 8][4]) {
  using D = Decode<kP, KV, kTiles>;
  constexpr bool kWidens = !std::is_same_v<KV, bf16>;
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp % D::kTeam * D::kColumns * int{sizeof(KV)} / 16;
  const uint8_t* const own = values + D::place(lane % 16, kWidens ? first : first + lane / 16);
#pragma unroll
  for (int k = 0; k < D::kKeys / 16; ++k) {
    uint32_t a[4];
    weights_operand(weights, k, a);
#pragma unroll
    for (int n = 0; n < D::kColumns / 16; ++n) {
      uint32_t b[4];
      if constexpr (!kWidens) {
        ldmatrix_x4_trans(b, D::other_chunk(own, 2 * n) + 16 * k * D::kRowBytes);
      } else {
        uint32_t pairs[2];  // of neighbouring columns, of two keys
        ldmatrix_x2_trans(pairs, D::other_chunk(own, n) + 16 * k * D::kRowBytes);
        const uint2 eight = {__byte_perm(pairs[0], pairs[1], 0x6420), __byte_perm(pairs[0], pairs[1], 0x7531)};
        gemm::widen(eight, p.widening, b);
      }
      mma_m16n8k16_bf16(sum[2 * n], a, {b[0], b[1]});
      mma_m16n8k16_bf16(sum[2 * n + 1], a, {b[2], b[3]});
    }
  }
}

// A part in memory, thread by thread.
template <int kP, class KV, int kTiles>
class Kept {
  using D = Decode<kP, KV, kTiles>;

 public:
  __device__ Kept(const DecodeProblem<KV>& p, int worker, int index)
      : values_(reinterpret_cast<float2*>(p.parts + (int64_t{worker} * p.kept_parts + index) * D::kPart)) {}

  __device__ void store(const Accumulator<D::kColumns>& part, const int (&row)[2]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (row[r] < 0) continue;
      if (own()) *softmax(r) = {part.largest[r], part.total[r]};
#pragma unroll
      for (int n = 0; n < D::kColumns / 8; ++n) *values(r, n) = {part.values[n][2 * r], part.values[n][2 * r + 1]};
    }
  }
  __device__ void load(Accumulator<D::kColumns>& part, const int (&row)[2]) const {
    part.clear();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (row[r] < 0) continue;
      const float2 of_row = *softmax(r);
      part.largest[r] = of_row.x, part.total[r] = of_row.y;
#pragma unroll
      for (int n = 0; n < D::kColumns / 8; ++n) {
        const float2 two = *values(r, n);
        part.values[n][2 * r] = two.x, part.values[n][2 * r + 1] = two.y;
      }
    }
  }

 private:
  // Of the threads that have a row, the one that tells its total.
  __device__ bool own() const { return threadIdx.x % 4 == 0 && threadIdx.x / kWarp % D::kTeam == 0; }
  __device__ float2* values(int r, int n) const {
    return values_ + (r * (D::kColumns / 8) + n) * D::kThreads + threadIdx.x;
  }
  __device__ float2* softmax(int r) const {
    const int row = threadIdx.x / kWarp / D::kTeam * kWarpRows + threadIdx.x % kWarp / 4 + 8 * r;
    return values_ + D::kRows * kP / 2 + row;
  }

  float2* values_;
};

template <int kP, class KV, int kTiles>
__device__ void finish(const DecodeProblem<KV>& p, const int (&rows)[2], int s, int g,
                       const Accumulator<Decode<kP, KV, kTiles>::kColumns>& sum) {
  using D = Decode<kP, KV, kTiles>;
  const int team = threadIdx.x / kWarp % D::kTeam, q = threadIdx.x % 4;
  const float of_values = p.v_scales ? p.v_scales[g] : 1;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (rows[r] < 0) continue;
    const int64_t row = int64_t{p.work.batch.offsets[s]} * p.work.heads * p.work.groups + rows[r];
    if (p.lse && q == 0 && team == 0) p.lse[row] = log_sum(sum.largest[r], sum.total[r]);
    const float inverse = of_values / sum.total[r];
    const auto put = [&](int column, float a, float b) {
      if (column < p.P)
        *reinterpret_cast<uint32_t*>(p.y + row * p.P + column) = bf16_pair(a * inverse, b * inverse);
    };
#pragma unroll
    for (int n = 0; n < D::kColumns / 8; n += 2) {
      const float *even = sum.values[n] + 2 * r, *odd = sum.values[n + 1] + 2 * r;
      const int first = team * D::kColumns + 8 * n;
      if constexpr (std::is_same_v<KV, bf16>) {
        put(first + 2 * q, even[0], even[1]), put(first + 8 + 2 * q, odd[0], odd[1]);
      } else {
        put(first + 4 * q, even[0], odd[0]), put(first + 4 * q + 2, even[1], odd[1]);
      }
    }
  }
}

template <int kP, class KV, int kTiles>
__global__ void __launch_bounds__(Decode<kP, KV, kTiles>::kThreads, Decode<kP, KV, kTiles>::kBlocks)
    decode_kernel(DecodeProblem<KV> p, Faults faults) {
  wait_for_previous_launch();
  using D = Decode<kP, KV, kTiles>;
  constexpr int kKeys = D::kKeys;
  if (faults.pending()) return;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, team = warp / D::kTeam, member = warp % D::kTeam;
  const Work& work = p.work;
  uint8_t* const ring = static_cast<uint8_t*>(dynamic_smem());
  const auto stage = [&](int slot) { return ring + slot * D::kStage; };
  float* const scores = reinterpret_cast<float*>(stage(p.stages));  // [kRows][kScoreRow]
  uint4* const queries = reinterpret_cast<uint4*>(scores + D::kScores);
  uint4* const own_queries = queries + team * (kP / 16) * kWarp;

  Cursor at;
  const Shares shares = share_out<D::kThreads>(work, reinterpret_cast<int64_t*>(queries), at);
  const int worker = blockIdx.x;
  if (worker >= shares.workers) return;
  const int64_t begin = shares.begin(worker);
  const int count = static_cast<int>(shares.begin(worker + 1) - begin);  // items

  // A warp copies the keys and values of kShare positions; a lane finds out where one of them lies.
  Cursor ahead = at;
  int fetched = 0;
  const auto fetch = [&](int slot) {
    if (fetched < count) {
      constexpr int kShare = kKeys / D::kWarps, kAtOnce = kWarp / D::kChunks;
      const int own = warp * kShare + lane % kShare, key = ahead.key + own, chunk = lane % D::kChunks;
      const int end = ahead.end();
      // In elements from the pool's first; negative: nowhere.
      const int64_t place = key < end ? (work.batch.place(ahead.s, key) * work.groups + ahead.g) * p.P : -1;
      const int column = chunk * (16 / int{sizeof(KV)});
#pragma unroll
      for (int i = 0; i < kShare; i += kAtOnce) {
        const int from = i + lane / D::kChunks;
        const int64_t of_key = __shfl_sync(kAllLanes, place, from);
        const bool there = of_key >= 0 && column < p.P;
        const int64_t offset = there ? of_key + column : 0;
        uint8_t* const to = stage(slot) + D::place(warp * kShare + from, chunk);
        cp_async_16(to, p.k + offset, there);
        cp_async_16(to + kKeys * D::kRowBytes, p.v + offset, there);
      }
      fetched += ahead.last_of_item(kKeys);
      ahead.advance(work, kKeys);
    }
    cp_async_commit_group();
  };

  for (int slot = 0; slot < p.stages - 1; ++slot) fetch(slot);
  Segment<kP, KV, kTiles> rows;
  Accumulator<D::kColumns> sum, part;
  part.clear();
  int slot = 0;
  for (int index = 0; index < count;) {
    wait_for_copies(p.stages - 2);
    __syncthreads();  // this stage has come for all threads, and all have done with the one before
    fetch(slot == 0 ? p.stages - 1 : slot - 1);

    const bool whole_from_here = index >= at.part;  // the segment begins in this share
    if (at.key == at.part * kSplit && (at.part == 0 || index == 0)) {
      rows.enter(p, at, own_queries);
      __syncthreads();
      sum.clear();
    }
    if (at.key <= rows.last_seen) {
      const uint8_t* keys = stage(slot);
      float own[D::kOwnKeys / 8][4] = {}, s[kKeys / 8][4];
      score<kP, KV, kTiles>(p, keys, own_queries, own);
      const auto pair = [&](int r, int n) {
        const int row = team * kWarpRows + lane / 4 + 8 * r;
        return reinterpret_cast<float2*>(scores + row * D::kScoreRow + 8 * n + lane % 4 * 2);
      };
#pragma unroll
      for (int n = 0; n < D::kOwnKeys / 8; ++n)
#pragma unroll
        for (int r = 0; r < 2; ++r)
          *pair(r, member * D::kOwnKeys / 8 + n) = {own[n][2 * r], own[n][2 * r + 1]};
      bar_sync(1 + team, D::kTeam * kWarp);  // the team's scores are there
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const float2 two = *pair(r, n);
          s[n][2 * r] = two.x, s[n][2 * r + 1] = two.y;
        }
      const float scale = p.k_scales ? p.scale * p.k_scales[at.g] : p.scale;
      weigh(s, scale, {rows.seen[0] + 1 - at.key, rows.seen[1] + 1 - at.key}, part);
      add_values<kP, KV, kTiles>(p, keys + kKeys * D::kRowBytes, s, part.values);
    }
    slot = slot + 1 == p.stages ? 0 : slot + 1;

    if (at.last_of_item(kKeys)) {
      part.total[0] = quad_reduce(part.total[0], Sum{}), part.total[1] = quad_reduce(part.total[1], Sum{});
      if (whole_from_here) sum.take(part);
      else Kept<kP, KV, kTiles>(p, worker, 1 + index).store(part, rows.row);

      const bool ends = at.part == at.parts - 1;
      if (ends || index == count - 1) {
        const int64_t first = begin + index - at.part;  // items of the segment
        const int first_worker = shares.worker(first), last_worker = shares.worker(first + at.parts - 1);
        bool finishes = true;
        if (first_worker < last_worker) {
          if (whole_from_here) Kept<kP, KV, kTiles>(p, worker, 0).store(sum, rows.row);
          finishes = comes_last(&p.tickets[first_worker], last_worker - first_worker);
          if (finishes) {
            Kept<kP, KV, kTiles>(p, first_worker, 0).load(sum, rows.row);
            for (int w = first_worker + 1; w <= last_worker; ++w) {
              const int64_t from = shares.begin(w), to = min(shares.begin(w + 1), first + at.parts);
#pragma unroll 1
              for (int i = 0; i < to - from; ++i) {
                Kept<kP, KV, kTiles>(p, w, 1 + i).load(part, rows.row);
                sum.take(part);
              }
            }
          }
        }
        if (finishes) finish<kP, KV, kTiles>(p, rows.row, at.s, at.g, sum);
      }
      part.clear();
      ++index;
    }
    at.advance(work, kKeys);
  }
}

// Its sequences are those of up to kDecodeTokens tokens. most_parts: that a sequence may have.
template <int kP, class KV, int kTiles>
void launch_decode(DecodeProblem<KV> p, int64_t tokens, int64_t most_parts) {
  using D = Decode<kP, KV, kTiles>;
  p.work.rows = D::kRows;
  const int64_t tiles = first_tile(tokens, p.work.batch.sequences, p.work.heads, D::kRows);
  const int64_t most = tiles * p.work.groups * most_parts;
  const int64_t workers = std::min<int64_t>(most, int64_t{D::kBlocks} * current().processors);
  if (workers == 0) return;
  // What two blocks leave each other on Hopper, or one beside its scores; and what there is on any GPU.
  constexpr int kHopper = (D::kBlocks == 2 ? 96 : 160) << 10, kAny = 64 << 10;
  p.stages = std::clamp((current().architecture == 90 ? kHopper : kAny) / D::kStage, 2, D::kMaxStages);
  // A worker leaves one part of a segment that it begins, and all its parts of one that it does not, not the first.
  p.kept_parts = static_cast<int>(std::min(most_parts, 1 + ceil_div(most, workers)));
  const Scratch parts(workers * p.kept_parts * D::kPart * sizeof(float));
  p.parts = parts.as<float>(), p.tickets = current().tickets;
  launch(decode_kernel<kP, KV, kTiles>,
         {.grid = static_cast<unsigned>(workers), .block = D::kThreads, .smem = D::smem(p.stages)}, p, faults());
}

}  // namespace nemotron_h::cuda::paged_attention
