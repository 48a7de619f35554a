// Which GPUs there are, told without throwing: on a machine without one, that is the answer. And one of them, to use.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "device.h"

namespace nemotron_h::cuda {

// Whether a toolkit was there to build with. Where not, this header is all there is of this folder.
inline constexpr bool kBuilt = sizeof NEMOTRON_H_CUDA_VERSION > 1;

// What the devices are called: 'cuda:0', 'cuda:1'; those of csrc/simt have a name of their own.
#ifdef NEMOTRON_H_SIMT
inline constexpr const char* kName = "simt";
#else
inline constexpr const char* kName = "cuda";
#endif

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

// Indices that open() is likely to take: of GPUs new enough, whatever else keeps them from being used.
std::vector<int> usable();

// The GPU of that index. Throws, saying what is missing: a driver, the GPU, its compute capability.
std::unique_ptr<Device> open(int index);

}  // namespace nemotron_h::cuda
