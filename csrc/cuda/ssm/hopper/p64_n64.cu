// The fused scan of heads of 64 with a state of 64: for models smaller than the published ones.
#include "cuda/ssm/hopper/kernel.cuh"

namespace nemotron_h::cuda::ssm::hopper {

void run_p64_n64(const Inputs& in) { run<64, 64>(in); }

}  // namespace nemotron_h::cuda::ssm::hopper
