// Attention over packed sequences and a paged cache: which kernel, in how much work, and the merge of split keys.
#include "checks.h"
#include "cuda/attention/exact.cuh"
#include "cuda/attention/hopper/hopper.h"
#include "cuda/attention/tile.cuh"
#include "cuda/kernels.h"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

using namespace paged_attention;

constexpr int kThreads = 128;

// y from the parts of each row that splits made, in their order; a warp takes a row.
template <class KV>
__global__ void __launch_bounds__(kThreads)
    merge_kernel(Problem<KV> p, Parts parts, int64_t tokens, int splits, Faults faults) {
  if (faults.pending()) return;
  const int lane = threadIdx.x % kWarp;
  const int H = p.heads * p.groups, P = p.P;
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp, t = row / H;
  if (t >= tokens) return;
  const int s = find_sequence(p.batch.offsets, p.batch.sequences, t);
  const int position = p.batch.past[s] + static_cast<int>(t - p.batch.offsets[s]);

  constexpr int kColumns = kMaxWidth / kWarp;
  float largest = -INFINITY, total = 0, sum[kColumns] = {};
#pragma unroll 4
  for (int split = 0; split <= position / kSplit; ++split) {
    const int64_t at = row * splits + split;
    const float2 part = parts.softmax[at];
    float values[kColumns];
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      if (c * kWarp + lane < P) values[c] = parts.values[at * P + c * kWarp + lane];
    if (part.x == -INFINITY) continue;
    const Merge by = merge(largest, total, part.x, part.y);
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      if (c * kWarp + lane < P) sum[c] = by(sum[c], values[c]);
  }
  if (p.lse && lane == 0) p.lse[row] = log_sum(largest, total);
  const float inverse = p.scale_of_values(static_cast<int>(row % H) / p.heads) / total;
#pragma unroll
  for (int c = 0; c < kColumns; ++c)
    if (c * kWarp + lane < P) p.y[row * P + c * kWarp + lane] = narrow<bf16>(sum[c] * inverse);
}

template <int kP, class KV>
void on_tensor_cores(const Problem<KV>& p, int64_t tokens, int64_t room) {
  const int column_blocks = static_cast<int>(ceil_div(p.P, Tile<kP>::kColumns));
  const Plan n = plan({tokens, p.batch.sequences, p.heads, p.groups * column_blocks, room, current().processors});
  const int64_t rows = n.splits > 1 ? tokens * p.heads * p.groups : 0;
  const Scratch softmax(rows * n.splits * sizeof(float2)), values(rows * n.splits * p.P * sizeof(float));
  const Parts parts{softmax.as<float2>(), values.as<float>()};
  launch(tile_kernel<kP, KV>,
         {.grid = dim3(n.tiles, p.groups * column_blocks, n.splits),
          .block = static_cast<unsigned>(n.warps * kWarp),
          .smem = Tile<kP>::smem(n.warps)},
         p, parts, faults());
  launch(merge_kernel<KV>, {.grid = static_cast<unsigned>(ceil_div(rows, kThreads / kWarp)), .block = kThreads}, p,
         parts, tokens, static_cast<int>(n.splits), faults());
}

template <int kColumns, class KV>
void in_f32(const ExactProblem<KV>& p, int64_t tokens) {
  using Exact = Exact<kColumns>;
  const int64_t tiles = first_tile(tokens, p.batch.sequences, p.heads, Exact::kTile);
  launch(exact_kernel<kColumns, KV>,
         {.grid = dim3(tiles, p.groups), .block = Exact::kWarps * kWarp, .smem = Exact::smem(p.P)}, p, faults());
}

}  // namespace

void attention(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache, const Tensor& k_scale,
               const Tensor& v_scale, const Tensor& pages, const Tensor& offsets, const Tensor& past, float scale,
               const Tensor& lse, const Tensor& y) {
  check_heads(q, k_cache);
  check_caches(q.dtype, k_cache, v_cache, k_scale, v_scale);
  const int64_t T = q.size(0), H = q.size(1), P = q.size(2), G = k_cache.size(2);
  expect(P <= kMaxWidth, "q has heads of " + std::to_string(P) + " elements",
         "at most " + std::to_string(kMaxWidth) + " on a GPU");
  const PagedBatch batch = paged_batch(pages, offsets, past, k_cache);
  check_sequences(offsets, past, T);
  check_pages_read(batch, k_cache.size(0));

  const int heads = static_cast<int>(H / G), groups = static_cast<int>(G), width = static_cast<int>(P);
  const float scale_2 = static_cast<float>(scale * 1.4426950408889634);  // log2(e)
  const auto f32 = [&]<class KV>() {
    const ExactProblem<KV> p{rows<const float>(q), k_cache.as<KV>(), v_cache.as<KV>(), k_scale.as<float>(),
                             v_scale.as<float>(), lse.as<float>(), y.as<float>(), batch, heads, groups, width, scale_2};
    if (P <= 128) in_f32<4>(p, T);
    else in_f32<8>(p, T);
  };
  const auto tensor_cores = [&]<class KV>() {
    const Problem<KV> p{rows<const bf16>(q), k_cache.as<KV>(), v_cache.as<KV>(), k_scale.as<float>(),
                        v_scale.as<float>(), lse.as<float>(), y.as<bf16>(), batch, heads, groups, width, scale_2,
                        packs(P, q), packs(P, k_cache, v_cache), packs(P, y)};
    const int64_t room = pages.size(1) * k_cache.size(1);
    if (P <= 64) on_tensor_cores<64>(p, T, room);
    else if (P <= 128) on_tensor_cores<128>(p, T, room);
    else on_tensor_cores<256>(p, T, room);
  };
  if (kernels() != Kernels::portable && hopper::takes(q, k_cache, v_cache, batch))
    return hopper::run(q, k_cache, v_cache, k_scale, v_scale, batch, scale_2, lse, y);
  const bool quantised = k_cache.dtype == DType::e4m3;
  if (q.dtype == DType::f32) quantised ? f32.operator()<e4m3>() : f32.operator()<float>();
  else quantised ? tensor_cores.operator()<e4m3>() : tensor_cores.operator()<bf16>();
}

}  // namespace nemotron_h::cuda
