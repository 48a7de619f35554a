// Which code of this library a GPU runs: the newest of those compiled that it can.
#pragma once

namespace nemotron_h::cuda {

// What the kernels were compiled for that run on the current device, 10 * major + minor: 80 where a GPU of compute
// capability 8.9 or 10.0 runs the portable code. Throws what CUDA says where there is none.
int architecture();

}  // namespace nemotron_h::cuda
