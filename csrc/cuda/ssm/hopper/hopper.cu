#include "cuda/ssm/hopper/hopper.h"

#include <optional>

#include "checks.h"
#include "cuda/gemm/copies.cuh"
#include "cuda/scratch.cuh"
#include "cuda/ssm/hopper/scan.cuh"
#include "cuda/tensor_map.h"

namespace nemotron_h::cuda::ssm::hopper {
namespace {

// A block for 256 elements of the state of a head and sequence: from what each segment makes of zero, the state before
// each, and what is left where they end, also where a sequence does. `count` is P N. So a sequence that is cut there
// computes alike.
__global__ void __launch_bounds__(256) pass_states_kernel(Scan scan, int count) {
  wait_for_previous_launch();
  if (scan.faults.pending()) return;
  const int at = blockIdx.x * 256 + threadIdx.x, h = blockIdx.y, s = blockIdx.z;
  if (at >= count) return;
  const int begin = scan.offsets[s];
  const int64_t past = scan.past[s], end = past + scan.offsets[s + 1] - begin;
  const auto of_slot = [&](int slot) { return (static_cast<int64_t>(slot) * scan.H + h) * count + at; };
  const int64_t own = of_slot(scan.slots[s]);
  float state = past == 0 ? 0 : scan.state.load(own);
  if (past == end && past == 0) scan.state.store(own, 0);
  int64_t number = first_piece(scan.offsets, s, scan.segment, 2);
  for (int64_t from = past, to; from < end; from = to, ++number) {
    to = (from / scan.segment + 1) * scan.segment;
    float& before = scan.before[(number * scan.H + h) * count + at];
    const float made = to <= end ? before : 0;
    before = state;
    if (to > end) break;  // the rest of a segment leaves its state when it is scanned
    state = fmaf(scan.decay[number * scan.H + h], state, made);
    const int save = save_slot(scan.saves, scan.E, begin + to - past);
    if (save >= 0) scan.state.store(of_slot(save), state);
    if (to == end) scan.state.store(own, state);
  }
}

struct Kernel {
  int64_t P, N;
  void (*run)(const Inputs&);
};
constexpr Kernel kKernels[] = {{32, 128, run_p32_n128},
                               {64, 64, run_p64_n64},
                               {64, 128, run_p64_n128},
                               {64, 256, run_p64_n256},
                               {80, 128, run_p80_n128}};

// Null where there is none.
const Kernel* kernel_of(int64_t P, int64_t N) {
  for (const Kernel& kernel : kKernels)
    if (kernel.P == P && kernel.N == N) return &kernel;
  return nullptr;
}

// [T,H,P] as [T,H*P], in a copy where TMA cannot read it as it lies.
class Matrix {
 public:
  explicit Matrix(const Tensor& t) : matrix_(t.borrowed()) {
    matrix_.rank = 2;
    matrix_.shape = {t.size(0), t.row_size()};
    if (!has_tensor_map(matrix_)) copy_.emplace(matrix_);
  }
  operator const Tensor&() const { return copy_ ? *copy_ : matrix_; }

 private:
  Tensor matrix_;
  std::optional<gemm::Dense> copy_;
};

}  // namespace

void pass_states(const Scan& scan, int state_size) {
  const dim3 grid(static_cast<unsigned>(ceil_div(state_size, 256)), static_cast<unsigned>(scan.H),
                  static_cast<unsigned>(scan.S));
  launch(pass_states_kernel, {.grid = grid, .block = 256}, scan, state_size);
}

bool takes(const Tensor& x, const Tensor& B, int64_t chunk) {
  return current().architecture == 90 && x.dtype == DType::bf16 && x.numel() > 0 && chunk <= kChunk &&
         kernel_of(x.size(2), B.size(2));
}

void run(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& D,
         const Tensor& dt_bias, float dt_min, float dt_max, const Tensor& z, int64_t chunk, int64_t segment,
         const Tensor& offsets, const Tensor& past, const Tensor& slots, const Tensor& state, const Tensor& saves,
         const Tensor& y) {
  const int64_t T = x.size(0), H = x.size(1), G = B.size(1), S = past.size(0);
  const int64_t pieces = segment ? count_pieces(T, S, segment, 2) : S;
  const int64_t states = segment ? pieces * H : 0, state_size = x.size(2) * B.size(2);
  const Scratch before(states * state_size * sizeof(float)), decay(states * sizeof(float));
  std::optional<Matrix> gate;
  if (z) gate.emplace(z);
  std::optional<Scratch> aligned;  // y, where it cannot be written by packs as it lies
  if (!packs(x.size(2), y)) aligned.emplace(y.bytes());
  const Scan scan{
      .dt = rows<const bf16>(dt), .z = gate ? rows<const bf16>(*gate) : Rows<const bf16>{}, .A = A.as<float>(),
      .D = D.as<float>(), .dt_bias = dt_bias.as<float>(), .dt_min = dt_min, .dt_max = dt_max,
      .offsets = offsets.as<int32_t>(), .past = past.as<int32_t>(), .slots = slots.as<int32_t>(),
      .saves = saves.as<int32_t>(), .state = state_pool(state),
      .y = {aligned ? aligned->as<bf16>() : y.as<bf16>(), H * x.size(2)}, .S = static_cast<int>(S),
      .H = static_cast<int>(H), .G = static_cast<int>(G), .E = saves ? static_cast<int>(saves.size(0)) : 0,
      .chunk = static_cast<unsigned>(chunk), .segment = static_cast<unsigned>(segment), .pieces = static_cast<int>(pieces),
      .before = before.as<float>(), .decay = decay.as<float>(), .faults = faults()};
  expect(pieces * H < INT32_MAX / 2, "the batch has " + std::to_string(pieces) + " sequences or segments",
         "fewer than 2^30 with their heads");
  const Matrix of_x(x), of_B(B), of_C(C);
  kernel_of(x.size(2), B.size(2))->run({of_x, of_B, of_C, scan});
  if (aligned)
    check(cudaMemcpyAsync(y.data.get(), aligned->as<void>(), y.bytes(), cudaMemcpyDeviceToDevice, current().stream));
}

}  // namespace nemotron_h::cuda::ssm::hopper
