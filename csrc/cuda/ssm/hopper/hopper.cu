#include "cuda/ssm/hopper/hopper.h"

#include <optional>

#include "checks.h"
#include "cuda/gemm/copies.cuh"
#include "cuda/ssm/hopper/kernel.cuh"

namespace nemotron_h::cuda::ssm::hopper {
namespace {

// A block for 256 elements of the state of a head and sequence: from what each segment makes of zero, the state before
// each. `count` is P N.
__global__ void __launch_bounds__(256) pass_states_kernel(Scan scan, int count) {
  if (scan.faults.pending()) return;
  const int at = blockIdx.x * 256 + threadIdx.x, h = blockIdx.y, s = blockIdx.z;
  if (at >= count) return;
  const int64_t past = scan.past[s], end = past + scan.offsets[s + 1] - scan.offsets[s];
  const int64_t own = (static_cast<int64_t>(scan.slots[s]) * scan.H + h) * count + at;
  float state = past == 0 ? 0 : scan.state.load(own);
  if (past == end) {
    if (past == 0) scan.state.store(own, 0);
    return;
  }
  const int64_t first = first_piece(scan.offsets, s, scan.segment, 2);
  const int segments = static_cast<int>((end - 1) / scan.segment - past / scan.segment + 1);
  for (int i = 0; i < segments; ++i) {
    const int64_t number = (first + i) * scan.H + h;
    float& before = scan.before[number * count + at];
    const float after = i + 1 < segments ? fmaf(scan.decay[number], state, before) : 0;
    before = state;
    state = after;
  }
}

// f.template operator()<P, N>(), if there is such a kernel; whether there is.
template <class F>
bool with_sizes(int64_t P, int64_t N, F f) {
  if (P == 64 && N == 64) f.template operator()<64, 64>();
  else if (P == 64 && N == 128) f.template operator()<64, 128>();
  else if (P == 64 && N == 256) f.template operator()<64, 256>();
  else if (P == 80 && N == 128) f.template operator()<80, 128>();
  else if (P == 32 && N == 128) f.template operator()<32, 128>();
  else return false;
  return true;
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

bool takes(const Tensor& x, const Tensor& B, int64_t chunk) {
  return current().architecture == 90 && x.dtype == DType::bf16 && x.numel() > 0 && chunk <= kChunk &&
         with_sizes(x.size(2), B.size(2), []<int kP, int kN>() {});
}

void run(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& D,
         const Tensor& dt_bias, float dt_min, float dt_max, const Tensor& z, int64_t chunk, int64_t segment,
         const Tensor& offsets, const Tensor& past, const Tensor& slots, const Tensor& state, const Tensor& saves,
         const Tensor& y) {
  const int64_t T = x.size(0), H = x.size(1), G = B.size(1), S = past.size(0);
  const int64_t pieces = segment ? count_pieces(T, S, segment, 2) : S, size = x.size(2) * B.size(2);
  std::optional<Scratch> before, decay;
  if (segment) before.emplace(pieces * H * size * sizeof(float)), decay.emplace(pieces * H * sizeof(float));
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
      .before = before ? before->as<float>() : nullptr, .decay = decay ? decay->as<float>() : nullptr,
      .faults = faults()};
  const int cluster = H / G % 2 == 0 && current().processors > 1 ? 2 : 1;
  expect(pieces * H < INT32_MAX / 2, "the batch has " + std::to_string(pieces) + " sequences or segments",
         "fewer than 2^30 with their heads");
  const int64_t blocks = std::min<int64_t>(pieces * H, current().processors / cluster * cluster);

  with_sizes(x.size(2), B.size(2), [&]<int kP, int kN>() {
    const Matrix of_x(x), of_B(B), of_C(C);
    const TensorMap maps[] = {tensor_map(of_x, kChunk), tensor_map(of_B, kChunk), tensor_map(of_C, kChunk)};
    const Shape shape{.grid = static_cast<unsigned>(blocks), .block = kThreads, .smem = sizeof(Shared<kP, kN>),
                      .cluster = static_cast<unsigned>(cluster)};
    if (segment) {
      launch(scan_kernel<true, kP, kN>, shape, maps[0], maps[1], maps[2], scan, cluster);
      launch(pass_states_kernel,
             {.grid = {static_cast<unsigned>(ceil_div(size, 256)), static_cast<unsigned>(H), static_cast<unsigned>(S)},
              .block = 256}, scan, static_cast<int>(size));
    }
    launch(scan_kernel<false, kP, kN>, shape, maps[0], maps[1], maps[2], scan, cluster);
  });
  if (aligned)
    check(cudaMemcpyAsync(y.data.get(), aligned->as<void>(), y.bytes(), cudaMemcpyDeviceToDevice, current().stream));
}

}  // namespace nemotron_h::cuda::ssm::hopper
