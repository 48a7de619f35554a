// The probe of the CUDA runtime: no kernels, and no error leaves it but as text.
#include "cuda/devices.h"

#include <cuda_runtime.h>

namespace nemotron_h::cuda {
namespace {

std::string text(cudaError_t status) {
  if (status == cudaSuccess) return {};
  return std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status);
}

GpuInfo gpu(int index) {
  GpuInfo info{};
  cudaDeviceProp properties;
  cudaError_t status = cudaGetDeviceProperties(&properties, index);
  if (status == cudaSuccess) {
    info.name = properties.name;
    info.major = properties.major;
    info.minor = properties.minor;
    info.total_bytes = properties.totalGlobalMem;
    status = cudaSetDevice(index);
  }
  if (status == cudaSuccess) {
    size_t total;
    status = cudaMemGetInfo(&info.free_bytes, &total);
  }
  info.error = text(status);
  return info;
}

}  // namespace

Gpus gpus() {
  Gpus all{};
  cudaDriverGetVersion(&all.driver);
  cudaRuntimeGetVersion(&all.runtime);
  int count = 0, current = 0;
  all.error = text(cudaGetDeviceCount(&count));
  if (!all.error.empty()) return all;
  cudaGetDevice(&current);
  for (int i = 0; i < count; ++i) all.devices.push_back(gpu(i));
  cudaSetDevice(current);
  return all;
}

}  // namespace nemotron_h::cuda
