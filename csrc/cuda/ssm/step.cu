// One token of the Mamba-2 recurrence for every sequence. Its time is that of reading and writing the state, which is
// passed over once: a warp has kRows rows of it on their way at a time, a lane kColumns neighbours of each.
#include "checks.h"
#include "cuda/batch.cuh"
#include "cuda/ssm/step_size.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRows = 4;
constexpr int kColumns = 4;  // 16 bytes of the state

template <class T>
struct SsmStep {
  Rows<const T> x, dt, B, C;     // [S,H,P], [S,H], [S,G,N], [S,G,N]
  const float *A, *D, *dt_bias;  // [H]
  float dt_min, dt_max;
  const int32_t *past, *slots;  // [S]
  float* state;                 // [Slots,H,P,N]
  Rows<T> y;                    // [S,H,P]
  int64_t pool;
  int H, P, G, N;
};

// kColumns neighbours of a row, of which `left` are in it. A lane has the same ones wherever the row begins in memory,
// so that its sums do not depend on that.
template <bool kPacks, class T>
__device__ Pack<T, kColumns> load_columns(const T* from, int left) {
  if constexpr (kPacks) {
    return load<kColumns>(from);
  } else {
    Pack<T, kColumns> pack{};
#pragma unroll
    for (int i = 0; i < kColumns; ++i)
      if (i < left) pack.v[i] = from[i];
    return pack;
  }
}
template <bool kPacks>
__device__ void store_columns(float* to, int left, const Pack<float, kColumns>& pack) {
  if constexpr (kPacks) {
    store(to, pack);
  } else {
#pragma unroll
    for (int i = 0; i < kColumns; ++i)
      if (i < left) to[i] = pack.v[i];
  }
}

// A warp for kRows rows of the state of a head.
template <class T, bool kPacks>
__global__ void __launch_bounds__(kThreads) ssm_step_kernel(SsmStep<T> op, Faults faults) {
  const int s = blockIdx.z, h = blockIdx.y, lane = threadIdx.x % kWarp;
  const int p0 = (blockIdx.x * kThreads + threadIdx.x) / kWarp * kRows, rows = min(kRows, op.P - p0);
  const int64_t head = static_cast<int64_t>(h) * op.P, group = static_cast<int64_t>(h / (op.H / op.G)) * op.N;

  // All that needs no slot is on its way while that is looked up.
  const bool fresh = op.past[s] == 0;
  const float dt = widen(op.dt[s][h]), bias = op.dt_bias[h], A = op.A[h], D = op.D[h];
  float x[kRows], sums[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) x[r] = widen(op.x[s][head + min(p0 + r, op.P - 1)]);
  const int64_t slot = decode_slot(op.past, op.slots, s, op.pool, faults);
  if (slot < 0 || rows <= 0) return;
  const float d = step_size(dt, bias, op.dt_min, op.dt_max), decay = expf(d * A);
  float* const state = op.state + (slot * op.H * op.P + head + p0) * op.N;
  for (int n = lane * kColumns; n < op.N; n += kWarp * kColumns) {
    const int left = op.N - n;
    Pack<float, kColumns> v[kRows] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (r < rows && !fresh) v[r] = load_columns<kPacks>(state + r * op.N + n, left);
    const auto B = load_columns<kPacks>(op.B[s] + group + n, left), C = load_columns<kPacks>(op.C[s] + group + n, left);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        v[r].v[i] = fmaf(decay, v[r].v[i], d * x[r] * widen(B.v[i]));
        sums[r] = fmaf(v[r].v[i], widen(C.v[i]), sums[r]);
      }
      if (r < rows) store_columns<kPacks>(state + r * op.N + n, left, v[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float y = warp_reduce(sums[r], Sum{}) + D * x[r];
    if (lane == r && r < rows) op.y[s][head + p0 + r] = narrow<T>(y);
  }
}

}  // namespace

void ssm_step(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& D,
              const Tensor& dt_bias, float dt_min, float dt_max, const Tensor& z, const Tensor& past,
              const Tensor& slots, const Tensor& state, int64_t seed, const Tensor& y) {
  check_ssm(x, B, dt_min, dt_max);
  const int64_t S = x.size(0), H = x.size(1), P = x.size(2), N = B.size(2);
  if (H == 0 || P == 0) return;
  const dim3 grid(static_cast<unsigned>(ceil_div(P, kRows * kThreads / kWarp)), static_cast<unsigned>(H),
                  static_cast<unsigned>(S));
  with_act(x.dtype, [&]<class T>() {
    const SsmStep<T> op{
        .x = rows<const T>(x), .dt = rows<const T>(dt), .B = rows<const T>(B), .C = rows<const T>(C),
        .A = A.as<float>(), .D = D.as<float>(), .dt_bias = dt_bias.as<float>(), .dt_min = dt_min, .dt_max = dt_max,
        .past = past.as<int32_t>(), .slots = slots.as<int32_t>(), .state = state.as<float>(), .y = rows<T>(y),
        .pool = state.size(0), .H = static_cast<int>(H), .P = static_cast<int>(P), .G = static_cast<int>(B.size(1)),
        .N = static_cast<int>(N)};
    const auto kernel = packs(N, B, C, state) ? ssm_step_kernel<T, true> : ssm_step_kernel<T, false>;
    launch(kernel, {.grid = grid, .block = kThreads}, op, faults());
  });
}

}  // namespace nemotron_h::cuda
