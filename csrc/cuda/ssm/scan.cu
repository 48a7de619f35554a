// Mamba-2 over whole sequences as the state space dual (Dao and Gu 2024, arXiv 2405.21060, section 6). Three kernels:
//
//   chunk_cumsum   a_j = sum of d A up to token j of the chunk
//   chunk_state    state = exp(a_last) state + sum over j of exp(a_last - a_j) d_j x_j B_j^T: what a chunk leaves, and
//                  how it passes to the next, in one, as the sums stay in registers from chunk to chunk
//   chunk_scan     y_i = exp(a_i) state C_i + sum over j <= i of exp(a_i - a_j) (C_i . B_j) d_j x_j + D x_i,
//                  times silu(z_i)
#include "checks.h"
#include "cuda/batch.cuh"
#include "cuda/kernels.h"
#include "cuda/scratch.cuh"
#include "cuda/ssm/hopper/hopper.h"
#include "cuda/ssm/pieces.cuh"
#include "cuda/ssm/state_pool.cuh"
#include "cuda/ssm/step_size.cuh"
#include "cuda/ssm/tile.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kChunk = 128;         // tokens of a tile, and the longest chunk
constexpr int kRows = 16 * kWarps;  // of y in a block of chunk_scan; columns of the state in one of chunk_state
constexpr int kHead = 80;           // columns of P in a block: the widest head of the family
template <class T>
constexpr int kDepth = 128 / sizeof(T);  // columns of N that chunk_scan takes at a time

// What is known of a token and head before the products. a is kept in two parts: it is its differences that count,
// however small.
struct alignas(16) Step {
  float d;
  float high, low;  // a
  float decay;      // exp(a)

  // exp(a - a of an earlier token): strong decay gives 0, never infinity.
  __device__ float since(const Step& earlier) const { return expf((high - earlier.high) + (low - earlier.low)); }
};

struct Chunk {
  int64_t begin;  // token
  int length;
};

template <class T>
struct Scan {
  Rows<const T> x, dt, B, C, z;  // [T,H,P], [T,H], [T,G,N], [T,G,N], [T,H,P]; z.data is null where there is no gate
  const float *A, *D, *dt_bias;  // [H]
  float dt_min, dt_max;
  const int32_t *offsets, *past, *slots, *saves;  // [S+1], [S], [S], [E,2]
  StatePool state;                                // [Slots,H,P,N]
  Rows<T> y;                                      // [T,H,P]
  Step* steps;                                    // [H,T]
  T* before;                                      // [chunks,H,P,N]: the state at the beginning of each chunk
  int64_t tokens;
  int S, H, P, G, N, E;
  int chunk;      // tokens
  int head_tile;  // columns of P in a block, a multiple of 16
  bool x_packs, BC_packs, state_packs;  // rows of P of x, z and y, of N of the others: kPack elements move together
  Faults faults;

  // The chunk of sequence s whose number is i, counted from the sequence's first.
  __device__ Chunk chunk_of(int s, int64_t i) const {
    const int64_t past = this->past[s], end = past + offsets[s + 1] - offsets[s];  // positions
    const int64_t boundary = (past / chunk + i) * chunk;
    const int64_t begin = max(boundary, past), length = min(boundary + chunk, end) - begin;
    return {offsets[s] + begin - past, static_cast<int>(max(length, int64_t{0}))};
  }
  // By its number in the batch. A sequence of L tokens has up to L / chunk + 2: its first and its last may be cut.
  __device__ Chunk chunk_at(int64_t i) const {
    const Piece piece = find_piece(offsets, S, i, chunk, 2);
    return chunk_of(piece.sequence, piece.index);
  }

  __device__ const Step* steps_of(const Chunk& c, int h) const { return steps + h * tokens + c.begin; }
  __device__ T* before_of(int64_t i, int h) const { return before + (i * H + h) * P * N; }
  __device__ int64_t of_slot(int slot, int h) const { return (slot * static_cast<int64_t>(H) + h) * P * N; }
  __device__ int64_t group(int h) const { return h / (H / G) * static_cast<int64_t>(N); }
};

// Two neighbours in a row, of which `left` are in it.
template <class T>
__device__ void load_pair(const T* from, float& a, float& b, int left, bool aligned) {
  if (aligned && left > 1) {
    float v[2];
    load(from, v);
    a = v[0], b = v[1];
  } else {
    a = left > 0 ? widen(from[0]) : 0, b = left > 1 ? widen(from[1]) : 0;
  }
}
template <class T>
__device__ void store_pair(T* to, float a, float b, int left, bool aligned) {
  if (aligned && left > 1) return store(to, {a, b});
  if (left > 0) to[0] = narrow<T>(a);
  if (left > 1) to[1] = narrow<T>(b);
}

// A warp for each chunk and head; a lane holds neighbouring tokens.
template <class T>
__global__ void __launch_bounds__(kThreads) chunk_cumsum_kernel(Scan<T> scan) {
  wait_for_previous_launch();
  if (scan.faults.pending()) return;
  constexpr int kEach = kChunk / kWarp;
  const int lane = threadIdx.x % kWarp, h = blockIdx.y * kWarps + threadIdx.x / kWarp;
  if (h >= scan.H) return;
  const Chunk chunk = scan.chunk_at(blockIdx.x);
  if (chunk.length == 0) return;
  const double A = scan.A[h];

  T dt[kEach];
  float d[kEach];
  double a[kEach], sum = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) dt[i] = scan.dt[chunk.begin + min(lane * kEach + i, chunk.length - 1)][h];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    d[i] = step_size(widen(dt[i]), scan.dt_bias[h], scan.dt_min, scan.dt_max);
    a[i] = sum += d[i] * A;
  }
#pragma unroll
  for (int by = 1; by < kWarp; by *= 2) {
    const double earlier = __shfl_up_sync(kAllLanes, sum, by);
    if (lane >= by) sum += earlier;
  }
  double earlier = __shfl_up_sync(kAllLanes, sum, 1);
  if (lane == 0) earlier = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int j = lane * kEach + i;
    if (j >= chunk.length) break;
    const double total = earlier + a[i];
    const float high = static_cast<float>(total);
    scan.steps[h * scan.tokens + chunk.begin + j] = {d[i], high, static_cast<float>(total - high), expf(high)};
  }
}

template <class T>
struct StateTiles {
  alignas(16) Tile<T, kChunk, kHead> x;
  alignas(16) Tile<T, kChunk, kRows> B;
  float factors[kChunk];  // exp(a_last - a_j) d_j
};

// A block for a sequence, a head, and kRows columns of its state, 16 for each warp; it walks the chunks in order.
template <class T>
__global__ void __launch_bounds__(kThreads, 2) chunk_state_kernel(Scan<T> scan) {
  wait_for_previous_launch();
  if (scan.faults.pending()) return;
  auto& smem = *static_cast<StateTiles<T>*>(dynamic_smem());
  const int s = blockIdx.x, h = blockIdx.y % scan.H, p0 = blockIdx.y / scan.H * scan.head_tile;
  const int N = scan.N, n0 = blockIdx.z * kRows;
  const int width = min(scan.head_tile, scan.P - p0), warp = threadIdx.x / kWarp;
  const int ld_x = sizeof(smem.x[0]) / sizeof(T), ld_B = sizeof(smem.B[0]) / sizeof(T);

  Sums sums[kHead / 16];
  // f(two neighbours, their place in the state of a head, how many lie in it)
  const auto each = [&](auto f) {
#pragma unroll
    for (int i = 0; i < kHead / 16; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
          const int p = 16 * i + sum_row(e);
          const int n = n0 + 16 * warp + sum_column(half, 0);
          f(sums[i][half][e], sums[i][half][e + 1], (p0 + p) * N + n, p < width ? N - n : 0);
        }
  };
  const bool fresh = scan.past[s] == 0;
  const int64_t own = scan.of_slot(scan.slots[s], h);
  each([&](float& a, float& b, int at, int left) {
    scan.state.load_pair(own + at, a, b, fresh ? 0 : left, scan.state_packs);
  });
  const auto leave = [&](int64_t to) {
    each([&](float a, float b, int at, int left) { scan.state.store_pair(to + at, a, b, left, scan.state_packs); });
  };

  const int64_t first = first_piece(scan.offsets, s, scan.chunk, 2);
  for (int64_t i = 0, next = scan.offsets[s]; next < scan.offsets[s + 1]; ++i) {
    const Chunk chunk = scan.chunk_of(s, i);
    next = chunk.begin + chunk.length;
    T* const before = scan.before_of(first + i, h);
    each([&](float a, float b, int at, int left) { store_pair(before + at, a, b, left, scan.state_packs); });

    const Step* const steps = scan.steps_of(chunk, h);
    const Step last = steps[chunk.length - 1];
    for (int j = threadIdx.x; j < chunk.length; j += kThreads) smem.factors[j] = last.since(steps[j]) * steps[j].d;
    __syncthreads();  // the factors are there, and the tiles of the chunk before have been read
    copy<kThreads>(smem.B, scan.B[chunk.begin] + scan.group(h) + n0, scan.B.stride, chunk.length, min(N - n0, kRows),
                   scan.BC_packs);
    scale<kThreads>(smem.x, scan.x[chunk.begin] + h * static_cast<int64_t>(scan.P) + p0, scan.x.stride, chunk.length,
                    width, scan.x_packs, smem.factors);
    cp_async_wait_all();
    __syncthreads();

    each([&](float& a, float& b, int, int) { a *= last.decay, b *= last.decay; });
    for (int j = 0; j < chunk.length; j += 16) {
      const auto B = operand<true>(&smem.B[j][16 * warp], ld_B);
#pragma unroll
      for (int p = 0; p < kHead; p += 16)
        if (p < width) multiply(sums[p / 16], operand<true>(&smem.x[j][p], ld_x), B);
    }
    const int save = save_slot(scan.saves, scan.E, next);
    if (save >= 0) leave(scan.of_slot(save, h));
  }
  leave(own);
}

template <class T>
struct ScanTiles {
  alignas(16) Tile<T, kChunk, kHead> x;
  alignas(16) Tile<T, kChunk, kDepth<T>> B;
  alignas(16) Tile<T, kRows, kDepth<T>> C;
  alignas(16) Tile<T, kHead, kDepth<T>> state;
  Step steps[kChunk];
};

// A block for kRows tokens of a chunk and a head; each warp has 16 of them, and the tokens up to these.
template <class T>
__global__ void __launch_bounds__(kThreads, 3) chunk_scan_kernel(Scan<T> scan) {
  wait_for_previous_launch();
  if (scan.faults.pending()) return;
  auto& smem = *static_cast<ScanTiles<T>*>(dynamic_smem());
  const int tiles = (scan.chunk + kRows - 1) / kRows, h = blockIdx.x / tiles % scan.H;
  const int64_t number = blockIdx.x / tiles / scan.H;
  const Chunk chunk = scan.chunk_at(number);
  const int i0 = blockIdx.x % tiles * kRows, end = min(i0 + kRows, chunk.length);
  if (i0 >= end) return;
  const int p0 = blockIdx.y * scan.head_tile, width = min(scan.head_tile, scan.P - p0);
  const int N = scan.N;
  const int64_t column = h * static_cast<int64_t>(scan.P) + p0;
  const int warp = threadIdx.x / kWarp, first = i0 + 16 * warp;  // of the warp's tokens

  for (int j = threadIdx.x; j < end; j += kThreads) smem.steps[j] = scan.steps_of(chunk, h)[j];
  copy<kThreads>(smem.x, scan.x[chunk.begin] + column, scan.x.stride, end, width, scan.x_packs);

  const int ld = sizeof(smem.C[0]) / sizeof(T), ld_x = sizeof(smem.x[0]) / sizeof(T);
  T* const own_block = smem.C[16 * warp];

  // C state^T, and C B^T as far as it is causal.
  Sums sums[kHead / 16] = {}, scores[kChunk / 16] = {};
  for (int n = 0; n < N; n += kDepth<T>) {
    const int depth = min(N - n, kDepth<T>);
    if (n > 0) __syncthreads();  // the tiles before have been read
    const int64_t in_group = scan.group(h) + n;
    copy<kThreads>(smem.C, scan.C[chunk.begin + i0] + in_group, scan.C.stride, end - i0, depth, scan.BC_packs);
    copy<kThreads>(smem.B, scan.B[chunk.begin] + in_group, scan.B.stride, end, depth, scan.BC_packs);
    copy<kThreads>(smem.state, scan.before_of(number, h) + p0 * N + n, N, width, depth, N % kPack == 0);
    cp_async_wait_all();
    __syncthreads();
    if (first < end) {
#pragma unroll
      for (int k = 0; k < kDepth<T>; k += 16) {
        const auto C = operand(own_block + k, ld);
#pragma unroll
        for (int p = 0; p < kHead; p += 16)
          if (p < width) multiply(sums[p / 16], C, operand(&smem.state[p][k], ld));
#pragma unroll
        for (int j = 0; j < kChunk; j += 16)
          if (j <= first) multiply(scores[j / 16], C, operand(&smem.B[j][k], ld));
      }
    }
  }
  if (N == 0) {  // else x and the steps have come with the other tiles
    cp_async_wait_all();
    __syncthreads();
  }
  if (first >= end) return;

  Step own[2];  // of the lane's two tokens
#pragma unroll
  for (int e = 0; e < 4; e += 2) own[e / 2] = smem.steps[min(first + sum_row(e), end - 1)];
#pragma unroll
  for (Sums& d : sums)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int e = 0; e < 4; ++e) d[half][e] *= own[e / 2].decay;
#pragma unroll
  for (int j0 = 0; j0 < kChunk; j0 += 16) {
    if (j0 > first) break;
    Sums& d = scores[j0 / 16];
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int i = first + sum_row(e), j = j0 + sum_column(half, e);
        const Step& step = smem.steps[min(j, end - 1)];
        d[half][e] = j <= i ? own[e / 2].since(step) * (d[half][e] * step.d) : 0;
      }
    put(d, own_block, ld);
    const auto decayed = operand(own_block, ld);
#pragma unroll
    for (int p = 0; p < kHead; p += 16)
      if (p < width) multiply(sums[p / 16], decayed, operand<true>(&smem.x[j0][p], ld_x));
  }

#pragma unroll
  for (int p = 0; p < kHead; p += 16)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        const int i = first + sum_row(e), q = p + sum_column(half, 0);
        if (i >= end || q >= width) continue;
        const float(&d)[4] = sums[p / 16][half];
        const T* const x = &smem.x[i][q];
        float v[2] = {d[e] + scan.D[h] * widen(x[0]), d[e + 1] + scan.D[h] * widen(x[1])};
        if (scan.z.data) {
          float z[2];
          load_pair(scan.z[chunk.begin + i] + column + q, z[0], z[1], width - q, scan.x_packs);
          v[0] *= silu(z[0]), v[1] *= silu(z[1]);
        }
        store_pair(scan.y[chunk.begin + i] + column + q, v[0], v[1], width - q, scan.x_packs);
      }
}

}  // namespace

// Chunks end where positions are multiples of the chunk size: a sequence cut there computes alike. Those longer than a
// tile are cut into the fewest equal parts that are not; all that changes with them is the order of the sums. States
// are f32 inside a call, whatever their pool holds.
void ssm_scan(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& D,
              const Tensor& dt_bias, float dt_min, float dt_max, const Tensor& z, int64_t chunk, int64_t segment,
              const Tensor& offsets, const Tensor& past, const Tensor& slots, const Tensor& state, const Tensor& saves,
              const Tensor& y) {
  check_ssm(x, B, dt_min, dt_max);
  check_chunk(chunk, segment);
  const int64_t T = x.size(0), H = x.size(1), P = x.size(2), G = B.size(1), N = B.size(2), S = past.size(0);
  int64_t part = std::min<int64_t>(chunk, kChunk);
  while (chunk % part) --part;
  const int64_t chunks = count_pieces(T, S, part, 2), head_tiles = ceil_div(P, kHead);

  check_sequences(offsets, past, T, slots, state.size(0));
  if (saves) check_saves(saves, offsets, past, T, slots, state.size(0), chunk);
  if (H == 0 || P == 0) return;
  if (kernels() != Kernels::portable && ssm::hopper::takes(x, B, part))
    return ssm::hopper::run(x, dt, A, B, C, D, dt_bias, dt_min, dt_max, z, part, segment, offsets, past, slots, state,
                            saves, y);
  with_act(x.dtype, [&]<class E>() {
    const Scratch steps(H * T * sizeof(Step)), before(chunks * H * P * N * sizeof(E));
    const Scan<E> scan{
        .x = rows<const E>(x), .dt = rows<const E>(dt), .B = rows<const E>(B), .C = rows<const E>(C),
        .z = rows<const E>(z), .A = A.as<float>(), .D = D.as<float>(), .dt_bias = dt_bias.as<float>(),
        .dt_min = dt_min, .dt_max = dt_max, .offsets = offsets.as<int32_t>(), .past = past.as<int32_t>(),
        .slots = slots.as<int32_t>(), .saves = saves.as<int32_t>(), .state = state_pool(state), .y = rows<E>(y),
        .steps = steps.as<Step>(), .before = before.as<E>(), .tokens = T, .S = static_cast<int>(S),
        .H = static_cast<int>(H), .P = static_cast<int>(P), .G = static_cast<int>(G), .N = static_cast<int>(N),
        .E = static_cast<int>(saves.size(0)), .chunk = static_cast<int>(part),
        .head_tile = static_cast<int>(ceil_div(ceil_div(P, head_tiles), 16) * 16), .x_packs = packs(P, x, z, y),
        .BC_packs = packs(N, B, C), .state_packs = packs(N, state), .faults = faults()};
    const auto blocks = [](int64_t n) { return static_cast<unsigned>(n); };
    launch(chunk_cumsum_kernel<E>, {.grid = {blocks(chunks), blocks(ceil_div(H, kWarps))}, .block = kThreads}, scan);
    launch(chunk_state_kernel<E>,
           {.grid = {blocks(S), blocks(H * head_tiles), blocks(ceil_div(N, kRows))}, .block = kThreads,
            .smem = sizeof(StateTiles<E>)}, scan);
    launch(chunk_scan_kernel<E>,
           {.grid = {blocks(chunks * H * ceil_div(part, kRows)), blocks(head_tiles)}, .block = kThreads,
            .smem = sizeof(ScanTiles<E>)}, scan);
  });
}

}  // namespace nemotron_h::cuda
