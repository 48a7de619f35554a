// Attention of many new tokens on sm_90a, by TMA and wgmma.
#pragma once

#include "cuda/attention/pages.cuh"

namespace nemotron_h::cuda::paged_attention::hopper {

// Of which heads and pages there are kernels.
bool takes(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache, const PagedBatch& batch);

// attention (csrc/ops.def), whose arguments have been checked, of sequences with more than `decoded` new tokens.
// `scale` is that of scores, log2(e) included.
void run(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache, const Tensor& k_scale, const Tensor& v_scale,
         const PagedBatch& batch, float scale, int decoded, const Tensor& lse,
         const Tensor& y);

}  // namespace nemotron_h::cuda::paged_attention::hopper
