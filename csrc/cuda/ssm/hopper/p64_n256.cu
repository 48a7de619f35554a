// The fused scan of heads of 64 with a state of 256: Nemotron-H 47B and 56B.
#include "cuda/ssm/hopper/kernel.cuh"

namespace nemotron_h::cuda::ssm::hopper {

void run_p64_n256(const Inputs& in) { run<64, 256>(in); }

}  // namespace nemotron_h::cuda::ssm::hopper
