// The fused scan of heads of 32 with a state of 128: for models smaller than the published ones.
#include "cuda/ssm/hopper/kernel.cuh"

namespace nemotron_h::cuda::ssm::hopper {

void run_p32_n128(const Inputs& in) { run<32, 128>(in); }

}  // namespace nemotron_h::cuda::ssm::hopper
