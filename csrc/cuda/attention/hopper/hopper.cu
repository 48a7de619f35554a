#include "cuda/attention/hopper/hopper.h"

#include <optional>

#include "cuda/attention/hopper/kernel.cuh"
#include "cuda/gemm/copies.cuh"
#include "cuda/scratch.cuh"
#include "cuda/tensor_map.h"

namespace nemotron_h::cuda::paged_attention::hopper {
namespace {

// Rows of dense elements as a matrix.
Tensor matrix(const Tensor& t, int64_t rows, int64_t row_stride) {
  Tensor m = t.borrowed();
  m.rank = 2;
  m.shape = {rows, t.numel() / rows};
  m.row_stride = row_stride;
  return m;
}
// A cache [Pages,PageSize,G,P] as [Pages*PageSize,G*P].
Tensor tokens_of(const Tensor& cache) {
  return matrix(cache, cache.size(0) * cache.size(1), cache.size(2) * cache.size(3));
}

}  // namespace

bool takes(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache, const PagedBatch& batch) {
  const int64_t P = q.size(2), page_size = batch.page_size;
  if (current().architecture != 90 || q.numel() == 0 || q.dtype != DType::bf16 || (P != 64 && P != 128)) return false;
  // A box of a tile is whole groups of 8 keys, which are swizzled together, and of one page.
  if (page_size % 8 != 0 || (kKeys % page_size != 0 && page_size % kKeys != 0)) return false;
  return k_cache.numel() > 0 && k_cache.size(0) * page_size <= INT32_MAX && has_tensor_map(tokens_of(k_cache)) &&
         has_tensor_map(tokens_of(v_cache));
}

void run(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache, const Tensor& k_scale, const Tensor& v_scale,
         const PagedBatch& batch, float scale, int decoded, const Tensor& lse,
         const Tensor& y) {
  const int64_t T = q.size(0), H = q.size(1), P = q.size(2), G = k_cache.size(2);
  const int64_t pieces = count_pieces(T, batch.sequences, kRows, 1);
  expect(pieces * H < INT32_MAX / 2, "the batch has " + std::to_string(pieces) + " tiles of tokens",
         "fewer than 2^30 with their heads");
  const Scratch taken(sizeof(unsigned));
  check(cudaMemsetAsync(taken.as<void>(), 0, sizeof(unsigned), current().stream));
  const Work work{.batch = batch, .k_scales = k_scale.as<float>(), .v_scales = v_scale.as<float>(),
                  .lse = lse.as<float>(), .y = y.as<bf16>(), .y_packs = packs(P, y), .H = static_cast<int>(H),
                  .heads = static_cast<int>(H / G), .decoded = decoded, .scale = scale,
                  .pieces = static_cast<int>(pieces), .taken = taken.as<unsigned>(),
                  .widening = gemm::widening(DType::e4m3), .faults = faults()};
  const Tensor rows = matrix(q, T, q.row_stride);
  std::optional<gemm::Dense> aligned;  // where TMA cannot read it as it lies
  if (!has_tensor_map(rows)) aligned.emplace(rows);
  const int box_rows = std::min(batch.page_size, kKeys);
  const auto launch_for = [&]<int kP, class KV>() {
    launch(attention_kernel<kP, KV>,
           {.grid = std::min<unsigned>(work.items(), current().processors), .block = kThreads,
            .smem = sizeof(Shared<kP, KV>)},
           tensor_map(aligned ? *aligned : rows, kRows), tensor_map(tokens_of(k_cache), box_rows),
           tensor_map(tokens_of(v_cache), box_rows), work);
  };
  const bool stored_as_e4m3 = k_cache.dtype == DType::e4m3;
  if (P == 64) stored_as_e4m3 ? launch_for.operator()<64, e4m3>() : launch_for.operator()<64, bf16>();
  else stored_as_e4m3 ? launch_for.operator()<128, e4m3>() : launch_for.operator()<128, bf16>();
}

}  // namespace nemotron_h::cuda::paged_attention::hopper
