// One token of the Mamba-2 recurrence for every sequence: a block for a head of a sequence, or for some of its rows.
#include "checks.h"
#include "cuda/batch.cuh"
#include "cuda/ssm/step.cuh"
#include "cuda/ssm/step_size.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

template <class E>
constexpr int kBlocks = sizeof(E) == 4 ? 2 : 3;  // on an SM, as registers allow

template <class T, class E>
struct SsmStep {
  Rows<const T> x, dt, B, C, z;  // [S,H,P], [S,H], [S,G,N], [S,G,N], [S,H,P]; z.data is null where there is no gate
  const float *A, *D, *dt_bias;  // [H]
  float dt_min, dt_max;
  const int32_t *past, *slots;  // [S]
  E* state;                     // [Slots,H,P,N]
  int64_t seed;
  Rows<T> y;  // [S,H,P]
  int64_t pool;
  int H, P, G, N;
};

template <class T, class E, bool kPacks>
__global__ void __launch_bounds__(step::kThreads, kPacks ? kBlocks<E> : 1)
    ssm_step_kernel(SsmStep<T, E> op, step::Partition partition, Faults faults) {
  wait_for_previous_launch();
  constexpr int kN = step::kColumns<E>, kRows = step::kRows<E>;
  const int s = blockIdx.z, h = blockIdx.y;
  const int begin = blockIdx.x * partition.rows, end = min(begin + partition.rows, op.P);
  const step::Team team(partition.lanes, begin, end);
  const int64_t head = static_cast<int64_t>(h) * op.P, group = static_cast<int64_t>(h / (op.H / op.G)) * op.N;

  // All that needs no slot is on its way while that is looked up.
  const int32_t past = op.past[s];
  const float dt = widen(op.dt[s][h]), bias = op.dt_bias[h], A = op.A[h];
  float dx[kRows], x = 0, z = 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) dx[r] = widen(op.x[s][head + min(team.row(r), op.P - 1)]);
  const int64_t own = head + team.row(team.lane);
  if (team.takes_one()) x = widen(op.x[s][own]);
  if (team.takes_one() && op.z.data) z = widen(op.z[s][own]);
  const int64_t slot = decode_slot(op.past, op.slots, s, op.pool, faults);
  if (slot < 0) return;

  const auto first = static_cast<uint32_t>(head * ceil_div(op.N, 8));
  step::Columns<E, kPacks> state(team, op.state + (slot * op.H * op.P + head) * op.N, op.N, past == 0,
                                 {op.seed, past, first});
  const float d = step_size(dt, bias, op.dt_min, op.dt_max), decay = expf(d * A);
#pragma unroll
  for (int r = 0; r < kRows; ++r) dx[r] *= d;
#pragma unroll 1
  while (state.n() < op.N) {
    const int n = state.n();
    float B[kN], C[kN];
    widen(step::load_columns<kPacks, kN>(op.B[s] + group + n, op.N - n), B);
    widen(step::load_columns<kPacks, kN>(op.C[s] + group + n, op.N - n), C);
    state.update(decay, [&](int r) { return dx[r]; }, B, C);
  }
  const float y = fmaf(op.D[h], x, state.result());
  if (team.takes_one()) op.y[s][own] = narrow<T>(op.z.data ? y * silu(z) : y);
}

}  // namespace

void ssm_step(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& D,
              const Tensor& dt_bias, float dt_min, float dt_max, const Tensor& z, const Tensor& past,
              const Tensor& slots, const Tensor& state, int64_t seed, const Tensor& y) {
  check_ssm(x, B, dt_min, dt_max);
  const int64_t S = x.size(0), H = x.size(1), P = x.size(2), N = B.size(2);
  if (H == 0 || P == 0) return;
  with_act(x.dtype, [&]<class T>() {
    step::with_state(state.dtype, [&]<class E>() {
      const SsmStep<T, E> op{
          .x = rows<const T>(x), .dt = rows<const T>(dt), .B = rows<const T>(B), .C = rows<const T>(C),
          .z = rows<const T>(z), .A = A.as<float>(), .D = D.as<float>(), .dt_bias = dt_bias.as<float>(),
          .dt_min = dt_min, .dt_max = dt_max, .past = past.as<int32_t>(), .slots = slots.as<int32_t>(),
          .state = state.as<E>(), .seed = seed, .y = rows<T>(y), .pool = state.size(0), .H = static_cast<int>(H),
          .P = static_cast<int>(P), .G = static_cast<int>(B.size(1)), .N = static_cast<int>(N)};
      const step::Partition partition = step::partition<E>(P, N);
      const dim3 grid(static_cast<unsigned>(partition.parts), static_cast<unsigned>(H), static_cast<unsigned>(S));
      const auto kernel = packs(N, B, C, state) ? ssm_step_kernel<T, E, true> : ssm_step_kernel<T, E, false>;
      launch(kernel, {.grid = grid, .block = static_cast<unsigned>(partition.threads)}, op, partition, faults());
    });
  });
}

}  // namespace nemotron_h::cuda
