// Products of few rows of x, for sm_90a: as fast as weights can be read.
#pragma once

#include "cuda/gemm/product.h"

namespace nemotron_h::cuda::gemm::streaming {

// 1 to 128 rows of bf16 with weights in bf16 or fp8, or of e4m3 with weights in e4m3; neither transposed.
bool takes(const Product& p);
// Sums of fp8 by fp8 are promoted, fast or not: while memory is what takes the time, it costs nothing.
void run(const Product& p);

}  // namespace nemotron_h::cuda::gemm::streaming
