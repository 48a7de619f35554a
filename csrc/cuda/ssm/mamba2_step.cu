#include "ops.h"

namespace nemotron_h::cuda {

void mamba2_step(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                 const Tensor&, const Tensor&, float, float, const Tensor&, int64_t, float, const Tensor&,
                 const Tensor&, const Tensor&, const Tensor&, int64_t, const Tensor&) {}

void mamba2_step_quantize(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                          const Tensor&, const Tensor&, float, float, const Tensor&, int64_t, float, const Tensor&,
                          const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t, DType, const Tensor&,
                          const Tensor&) {}

}  // namespace nemotron_h::cuda
