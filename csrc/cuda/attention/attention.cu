// Attention over packed sequences and a paged cache: which kernel, in how much work.
#include "checks.h"
#include "cuda/attention/decode.cuh"
#include "cuda/attention/exact.cuh"
#include "cuda/attention/hopper/hopper.h"
#include "cuda/attention/tile.cuh"
#include "cuda/kernels.h"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

using namespace paged_attention;

template <int kP, class KV>
void by_tiles(const Problem<KV>& p, int64_t tokens) {
  // One warp where the new tokens of a sequence fill no more.
  const int64_t S = p.batch.sequences;
  const int warps = tokens * p.heads <= kWarpRows * S ? 1 : kMaxWarps;
  const int64_t tiles = first_tile(tokens, S, p.heads, warps * kWarpRows);
  const unsigned column_blocks = ceil_div(p.P, Tile<kP>::kColumns);
  launch(tile_kernel<kP, KV>,
         {.grid = dim3(tiles, p.groups * column_blocks), .block = static_cast<unsigned>(warps * kWarp),
          .smem = Tile<kP>::smem(warps)},
         p, faults());
}

template <int kP, class KV>
void by_decoding(const DecodeProblem<KV>& p, int64_t tokens, int64_t most_parts) {
  const Work& work = p.work;
  const int64_t of_sequence = ceil_div(tokens, std::max(work.batch.sequences, 1));
  if (work.heads * std::min<int64_t>(of_sequence, kDecodeTokens) <= kWarpRows)
    launch_decode<kP, KV, 1>(p, tokens, most_parts);
  else
    launch_decode<kP, KV, 4>(p, tokens, most_parts);
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
               bool decodes, const Tensor& lse, const Tensor& y) {
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
    Problem<KV> p{rows<const bf16>(q), k_cache.as<KV>(), v_cache.as<KV>(), k_scale.as<float>(), v_scale.as<float>(),
                  lse.as<float>(), y.as<bf16>(), batch, heads, groups, width, scale_2, packs(P, q),
                  packs(P, k_cache, v_cache), packs(P, y), 0};
    const auto aligned = [](const Tensor& t) { return reinterpret_cast<uintptr_t>(t.data.get()) % 16 == 0; };
    if (decodes && P <= 128 && p.q_packs && p.y_packs && P * sizeof(KV) % 16 == 0 && aligned(k_cache) && aligned(v_cache)) {
      const int64_t S = batch.sequences, most_parts = ceil_div(pages.size(1) * k_cache.size(1), kSplit);
      const DecodeProblem<KV> decode{p.q, p.k, p.v, p.k_scales, p.v_scales, p.lse, p.y, {batch, heads, groups}, width,
                                     scale_2, gemm::widening(k_cache.dtype)};
      if (S > 1 || T <= kDecodeTokens) {
        if (P <= 64) by_decoding<64>(decode, T, most_parts);
        else by_decoding<128>(decode, T, most_parts);
      }
      if (T <= kDecodeTokens) return;  // no sequence has more
      p.decoded = kDecodeTokens;
    }
    if (kernels() != Kernels::portable && hopper::takes(q, k_cache, v_cache, batch))
      return hopper::run(q, k_cache, v_cache, k_scale, v_scale, batch, scale_2, p.decoded, lse, y);
    if (P <= 64) by_tiles<64>(p, T);
    else if (P <= 128) by_tiles<128>(p, T);
    else by_tiles<256>(p, T);
  };
  const bool quantised = k_cache.dtype == DType::e4m3;
  if (q.dtype == DType::f32) quantised ? f32.operator()<e4m3>() : f32.operator()<float>();
  else quantised ? tensor_cores.operator()<e4m3>() : tensor_cores.operator()<bf16>();
}

}  // namespace nemotron_h::cuda
