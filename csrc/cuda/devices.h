// Which GPUs there are, told without throwing: on a machine without one, that is the answer.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace nemotron_h::cuda {

// Whether a toolkit was there to build with. Where not, this header is all there is of this folder.
inline constexpr bool kBuilt = sizeof NEMOTRON_H_CUDA_VERSION > 1;

struct GpuInfo {
  std::string name;
  int major, minor;     // compute capability
  size_t total_bytes;   // of memory
  size_t free_bytes;
  std::string error;    // why it cannot be used, as "cudaErrorX: what it means", or empty
};

struct Gpus {
  int driver;          // the newest CUDA that the driver serves, as 1000 * major + 10 * minor; 0: no driver
  int runtime;         // the CUDA runtime that is linked in, likewise
  std::string error;   // why there are no devices, likewise, or empty
  std::vector<GpuInfo> devices;
};

// Makes a context on every GPU, as only that tells its free memory.
Gpus gpus();

}  // namespace nemotron_h::cuda
