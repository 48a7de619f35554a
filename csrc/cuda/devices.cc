// The probe of the CUDA runtime: no kernels, and no error leaves gpus() but as text.
#include "cuda/devices.h"

#include "cuda/context.h"
#include "cuda/cuda_device.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kOldest = 8;  // compute capability 8.0: asynchronous copies, bf16 in tensor cores

int attribute(cudaDeviceAttr which, int index) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, index));
  return value;
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

std::vector<int> usable() {
  std::vector<int> indices;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return indices;
  for (int i = 0; i < count; ++i)
    if (attribute(cudaDevAttrComputeCapabilityMajor, i) >= kOldest) indices.push_back(i);
  return indices;
}

std::unique_ptr<Device> open(int index) {
  const std::string name = std::string(kName) + ":" + std::to_string(index);
  const auto fail = [&](const std::string& why) { return std::runtime_error("device " + name + ": " + why); };
  int driver = 0, count = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0) throw fail("no NVIDIA driver is found");
  if (const auto status = cudaGetDeviceCount(&count); status != cudaSuccess) throw fail(text(status));
  if (index >= count) throw fail("the CUDA runtime sees " + std::to_string(count) + (count == 1 ? " GPU" : " GPUs"));
  try {
    const int major = attribute(cudaDevAttrComputeCapabilityMajor, index);
    const int minor = attribute(cudaDevAttrComputeCapabilityMinor, index);
    if (major < kOldest)
      throw std::runtime_error("compute capability is " + std::to_string(major) + "." + std::to_string(minor) +
                               ", expected 8.0 or newer");
    return std::make_unique<CudaDevice>(name, index);
  } catch (const std::exception& e) {
    throw fail(e.what());
  }
}

}  // namespace nemotron_h::cuda
