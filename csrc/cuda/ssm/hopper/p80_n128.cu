// The fused scan of heads of 80 with a state of 128: Nemotron Nano 9B and 12B v2.
#include "cuda/ssm/hopper/kernel.cuh"

namespace nemotron_h::cuda::ssm::hopper {

void run_p80_n128(const Inputs& in) { run<80, 128>(in); }

}  // namespace nemotron_h::cuda::ssm::hopper
