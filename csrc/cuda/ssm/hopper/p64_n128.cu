// The fused scan of heads of 64 with a state of 128: Nemotron-H 4B and 8B.
#include "cuda/ssm/hopper/kernel.cuh"

namespace nemotron_h::cuda::ssm::hopper {

void run_p64_n128(const Inputs& in) { run<64, 128>(in); }

}  // namespace nemotron_h::cuda::ssm::hopper
