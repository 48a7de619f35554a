// A Mamba-2 layer between its projections, of one token for every sequence, in one launch.
//
// A block has rows of the state of one head. While their first columns are on their way it convolves its own columns of
// x, and B and C, which all blocks of a group compute, each for itself. y goes to memory in f32. The last block of a
// group to come, which a ticket tells, finds it all, and shifts what all have read: B and C in the convolution's state;
// then it normalises the group. With a scale for each row, the last group of a row quantises it.
#include "checks.h"
#include "cuda/batch.cuh"
#include "cuda/conv1d.cuh"
#include "cuda/fp8.cuh"
#include "cuda/norm.cuh"
#include "cuda/ssm/step.cuh"
#include "cuda/ssm/step_size.cuh"
#include "cuda/scratch.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

using step::kThreads;

constexpr int kTile = 256;  // columns of B and C in shared memory: whole passes of a team

// What becomes of the norm besides; nothing where all is null.
struct Quantization {
  float* largest = nullptr;  // one scale for all, by quantize() of what is stored: 0 at first
  float* maxima = nullptr;   // [S,G]; a scale for each row, at once:
  float* scale = nullptr;    // [S]
  void* y = nullptr;         // [S,I], in `to`
  DType to = DType::e4m3;
};

template <class T, class E>
struct Mamba2Step {
  Convolution<T> convolution;    // x [S,C]
  Rows<const T> z, dt;           // [S,I], [S,H]
  const float *A, *D, *dt_bias;  // [H]
  float dt_min, dt_max;
  const float* norm_weight;  // [I]
  float eps;
  const int32_t *past, *slots;  // [S]
  E* state;                     // [Slots,H,P,N]
  int64_t seed;
  Rows<float> inner;  // [S,I]: y before the norm
  Rows<T> norm;       // [S,I]
  Quantization quantization;
  unsigned* tickets;  // [sequences of a launch, G + 1]: of the blocks of each group, and of the groups
  int64_t pool;
  int H, P, G, N;

  __device__ int I() const { return H * P; }
  // Of the channels that are B, and then C, of group g: column n.
  __device__ int B_channel(int g, int n) const { return I() + g * N + n; }
  __device__ int C_channel(int g, int n) const { return B_channel(G + g, n); }
};

template <class To, int kN, class T, class E>
__device__ void quantize_row(const Mamba2Step<T, E>& op, int s) {
  const Quantization& to = op.quantization;
  const int64_t I = op.I();
  float most = 0;
  for (int g = threadIdx.x; g < op.G; g += blockDim.x) most = fmaxf(most, to.maxima[static_cast<int64_t>(s) * op.G + g]);
  const float scale = scale_from_amax<To>(block_reduce<kThreads, struct RowMost>(most, Max{}));
  if (threadIdx.x == 0) to.scale[s] = 1 / scale;
  for (int64_t d = threadIdx.x * kPack; d < I; d += blockDim.x * kPack) {
    float u[kPack];
    widen(load_pack<kN>(op.norm[s], d, I), u);
#pragma unroll
    for (float& v : u) v *= scale;
    store_pack<kN>(static_cast<To*>(to.y) + s * I, d, I, u);
  }
}

template <class T, class E, bool kPacks>
__global__ void __launch_bounds__(kThreads, kPacks && sizeof(T) == 2 ? 2 : 1)
    mamba2_step_kernel(Mamba2Step<T, E> op, step::Partition partition, int first, Faults faults) {
  wait_for_previous_launch();
  constexpr int kN = step::kColumns<E>, kAccess = kPacks ? kPack : 1;
  struct Convolved {
    float x[kThreads], B[kTile], C[kTile];  // x of this block's rows
  };
  auto& convolved = shared<Convolved, struct Tag>();
  const int s = first + blockIdx.z, h = blockIdx.y, g = h / (op.H / op.G);
  const int begin = blockIdx.x * partition.rows, end = min(begin + partition.rows, op.P);
  const step::Team team(partition.lanes, begin, end);
  const int head = h * op.P;

  const int32_t past = op.past[s];
  const float dt = widen(op.dt[s][h]), bias = op.dt_bias[h], A = op.A[h];
  const auto slot = static_cast<int>(decode_slot(op.past, op.slots, s, op.pool, faults));
  if (slot < 0) {
    if (!op.quantization.largest) return;
    for (int p = begin + threadIdx.x; p < end; p += blockDim.x) op.norm[s][head + p] = T{};  // as quantize() reads it
    return;
  }
  const uint32_t eights = head * ((op.N + 7) / 8);
  step::Columns<E, kPacks> state(team, op.state + (static_cast<int64_t>(slot) * op.I() + head) * op.N, op.N, past == 0,
                                 {op.seed, past, eights});

  const auto channel = [&](int d) {  // its slot is read again: there are no registers to keep it
    return Channels<T, 1>{op.convolution, d, s, s + 1, op.convolution.of_slot(op.slots[s]), op.past[s] == 0};
  };
  const float d = step_size(dt, bias, op.dt_min, op.dt_max), decay = expf(d * A);
  const auto dx = [&](int r) { return r < team.rows ? d * convolved.x[team.row(r) - begin] : 0; };
  for (int tile = 0; tile == 0 || tile < op.N; tile += kTile) {
    if (tile > 0) __syncthreads();  // the columns before have been read
    const int rows = tile == 0 ? end - begin : 0, columns = min(kTile, op.N - tile);
    for (int i = threadIdx.x; i < rows + 2 * columns; i += blockDim.x) {
      const int n = i - rows, m = n - columns;
      const bool is_x = n < 0, is_B = m < 0;
      const auto of = channel(is_x ? head + begin + i : is_B ? op.B_channel(g, tile + n) : op.C_channel(g, tile + m));
      float y[1];
      of.convolve(s, y);
      (is_x ? convolved.x[i] : is_B ? convolved.B[n] : convolved.C[m]) = y[0];
      if (is_x) of.leave_state();
    }
    __syncthreads();
#pragma unroll 1
    while (state.n() < min(op.N, tile + kTile)) {
      const int at = state.n() - tile, left = op.N - state.n();
      const auto B = step::shared_columns<kPacks, kN>(convolved.B + at, left);
      const auto C = step::shared_columns<kPacks, kN>(convolved.C + at, left);
      state.update(decay, dx, B.v, C.v);
    }
  }
  const float y = state.result();
  if (team.takes_one()) {
    const int p = team.row(team.lane);
    op.inner[s][head + p] = fmaf(op.D[h], convolved.x[p - begin], y);
  }

  unsigned* const tickets = op.tickets + static_cast<int64_t>(blockIdx.z) * (op.G + 1);
  if (!comes_last(tickets + g, op.H / op.G * partition.parts - 1)) return;
  for (int n = threadIdx.x; n < op.N; n += blockDim.x) {
    channel(op.B_channel(g, n)).leave_state();
    channel(op.C_channel(g, n)).leave_state();
  }
  const int size = op.I() / op.G, from = g * size, to = from + size;
  float most = 0;
  if (size > 0) {
    const norm::Gated<T, kAccess, float> gated{{op.inner.data, op.inner.stride}, op.z};
    norm::normalize_row<kThreads>(gated, op.norm_weight, s, from, to, op.eps, [&](int64_t d, float (&u)[kPack]) {
      most = fmaxf(most, norm::round_to<T>(u));
      store_pack<kAccess>(op.norm[s], d, to, u);
    });
  }
  const Quantization& quantization = op.quantization;
  if (!quantization.largest && !quantization.maxima) return;
  most = block_reduce<kThreads, struct Most>(most, Max{});
  if (quantization.largest) {
    if (threadIdx.x == 0) raise(quantization.largest, most);
    return;
  }
  if (threadIdx.x == 0) quantization.maxima[static_cast<int64_t>(s) * op.G + g] = most;
  if (!comes_last(tickets + op.G, op.G - 1)) return;
  if (quantization.to == DType::e4m3) quantize_row<e4m3, kAccess>(op, s);
  else quantize_row<e5m2, kAccess>(op, s);
}

// The norm goes to `norm`.
void run(const Tensor& x, const Tensor& z, const Tensor& dt, const Tensor& conv_weight, const Tensor& conv_bias,
         const Tensor& A, const Tensor& D, const Tensor& dt_bias, float dt_min, float dt_max,
         const Tensor& norm_weight, int64_t groups, float eps, const Tensor& past, const Tensor& slots,
         const Tensor& conv_state, const Tensor& state, int64_t seed, const Tensor& norm,
         const Quantization& quantization) {
  const int64_t S = x.size(0), I = z.size(1), H = state.size(1), P = state.size(2), N = state.size(3);
  expect(groups < kTickets, "groups is " + std::to_string(groups), "less than " + std::to_string(kTickets));
  const Temporary inner(DType::f32, S, I);
  with_act(x.dtype, [&]<class T>() {
    step::with_state(state.dtype, [&]<class E>() {
      const Mamba2Step<T, E> op{
          .convolution = {rows<const T>(x), conv_weight.as<float>(), conv_bias.as<float>(), conv_state.as<T>(),
                          static_cast<int>(conv_weight.size(0)), x.size(1)},
          .z = rows<const T>(z), .dt = rows<const T>(dt), .A = A.as<float>(), .D = D.as<float>(),
          .dt_bias = dt_bias.as<float>(), .dt_min = dt_min, .dt_max = dt_max, .norm_weight = norm_weight.as<float>(),
          .eps = eps, .past = past.as<int32_t>(), .slots = slots.as<int32_t>(), .state = state.as<E>(), .seed = seed,
          .inner = rows<float>(inner.tensor), .norm = rows<T>(norm), .quantization = quantization,
          .tickets = current().tickets, .pool = state.size(0), .H = static_cast<int>(H), .P = static_cast<int>(P),
          .G = static_cast<int>(groups), .N = static_cast<int>(N)};
      const step::Partition partition = step::partition<E>(P, N);
      const bool packed = packs(N, state) && packs(I / groups, inner.tensor, z, norm_weight, norm) &&
                          reinterpret_cast<uintptr_t>(quantization.y) % kPack == 0;
      const auto kernel = packed ? mamba2_step_kernel<T, E, true> : mamba2_step_kernel<T, E, false>;
      const int64_t most = kTickets / (groups + 1);  // sequences that there are tickets for
      for (int64_t first = 0; first < S; first += most) {
        const dim3 grid(static_cast<unsigned>(partition.parts), static_cast<unsigned>(H),
                        static_cast<unsigned>(std::min(most, S - first)));
        launch(kernel, {.grid = grid, .block = static_cast<unsigned>(partition.threads)}, op, partition,
               static_cast<int>(first), faults());
      }
    });
  });
}

}  // namespace

void mamba2_step(const Tensor& x, const Tensor& z, const Tensor& dt, const Tensor& conv_weight, const Tensor& conv_bias,
                 const Tensor& A, const Tensor& D, const Tensor& dt_bias, float dt_min, float dt_max,
                 const Tensor& norm_weight, int64_t groups, float eps, const Tensor& past, const Tensor& slots,
                 const Tensor& conv_state, const Tensor& state, int64_t seed, const Tensor& y) {
  check_mamba2_step(x, z, state, groups, dt_min, dt_max);
  run(x, z, dt, conv_weight, conv_bias, A, D, dt_bias, dt_min, dt_max, norm_weight, groups, eps, past, slots,
      conv_state, state, seed, y, {});
}

void mamba2_step_quantize(const Tensor& x, const Tensor& z, const Tensor& dt, const Tensor& conv_weight,
                          const Tensor& conv_bias, const Tensor& A, const Tensor& D, const Tensor& dt_bias,
                          float dt_min, float dt_max, const Tensor& norm_weight, int64_t groups, float eps,
                          const Tensor& past, const Tensor& slots, const Tensor& conv_state, const Tensor& state,
                          int64_t seed, int64_t scales, DType to, const Tensor& y, const Tensor& scale) {
  const int64_t S = x.size(0);
  check_scales(scales, "S", S);
  check_mamba2_step(x, z, state, groups, dt_min, dt_max);
  const Temporary norm(x.dtype, S, z.size(1)), maxima(scales == S ? S * groups : 1);
  const auto step = [&](const Quantization& quantization) {
    run(x, z, dt, conv_weight, conv_bias, A, D, dt_bias, dt_min, dt_max, norm_weight, groups, eps, past, slots,
        conv_state, state, seed, norm.tensor, quantization);
  };
  float* const most = maxima.tensor.as<float>();
  if (scales == S) return step({.maxima = most, .scale = scale.as<float>(), .y = y.data.get(), .to = to});

  zero(most, 1);
  step({.largest = most});
  quantize(norm.tensor, maxima.tensor, to, y, scale);
}

}  // namespace nemotron_h::cuda
