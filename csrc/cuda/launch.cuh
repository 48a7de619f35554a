// What CUDA and the host spell differently around a kernel: launches, shared memory, tensor maps.
//
// The .cu files compile with nvcc for a GPU, and with a C++ compiler against csrc/simt, which runs every CUDA
// thread on the CPU. They differ here and in ptx.cuh, and nowhere else.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#ifdef __CUDACC__
#include <cuda.h>
#include <cuda_runtime.h>
#else
#include "simt/simt.h"
#endif

#include "cuda/context.h"
#include "cuda/kernels.h"

// Whether kernels for sm_90a are compiled: bodies that use its instructions are empty on other architectures, where
// nobody launches them.
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define NEMOTRON_H_SM90A 1
#endif

namespace nemotron_h::cuda {

// launch(kernel, {.grid = 8, .block = 256}, arguments...) on the current op's stream. An empty grid is no launch.
struct Shape {
  dim3 grid = 1, block = 1;
  size_t smem = 0;       // bytes of dynamic shared memory
  unsigned cluster = 1;  // blocks along x that run together
  Extent ahead = {};     // what the kernel reads before griddepcontrol_wait()
};

// Whether a launch may begin while the one before it runs. Then the kernel must wait for that one by itself.
inline bool begins_early(const Shape& shape) {
  const Context& context = current();
  return overlaps() && context.architecture >= 90 && context.overlap.may_begin_early(shape.ahead);
}

#ifdef __CUDACC__

using TensorMap = CUtensorMap;

// auto& sums = shared<float[32], struct Sums>();     // __shared__ float sums[32];
// The tag names the declaration: the same tag and type mean the same memory.
template <class T, class Tag>
__device__ __forceinline__ T& shared() {
  __shared__ alignas(16) T storage;
  return storage;
}

// The dynamic shared memory of the block, aligned as 128-byte swizzling wants it.
__device__ __forceinline__ void* dynamic_smem() {
  extern __shared__ __align__(1024) uint8_t bytes[];
  return bytes;
}

template <class... P, class... A>
void launch(void (*kernel)(P...), const Shape& shape, A... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  if (shape.smem > 48 << 10)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shape.smem)));
  cudaLaunchAttribute attributes[2]{};
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid, config.blockDim = shape.block, config.dynamicSmemBytes = shape.smem;
  config.stream = current().stream;
  config.attrs = attributes;
  if (shape.cluster > 1) {
    cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {shape.cluster, 1, 1};
  }
  if (begins_early(shape)) {
    cudaLaunchAttribute& early = attributes[config.numAttrs++];
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
  }
  check(cudaLaunchKernelEx(&config, kernel, P(arguments)...));
  current().overlap.launched();
}

// An op takes `reserved` bytes of the workspace, of which it uses `bytes`; and gives them back.
inline void take_workspace(std::byte*, size_t, size_t) {}
inline void leave_workspace(std::byte*, size_t) {}

#else

using simt::dynamic_smem;
using simt::TensorMap;

template <class T, class Tag>
T& shared() {
  static char declaration;  // its address is the key: one for each tag and type
  return *static_cast<T*>(simt::static_smem(&declaration, sizeof(T), alignof(T) < 16 ? 16 : alignof(T)));
}

template <class... P, class... A>
void launch(void (*kernel)(P...), const Shape& shape, A... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  check(simt::launch(current().stream,
                     {shape.grid, shape.block, shape.smem, shape.cluster, begins_early(shape), shape.ahead.data,
                      shape.ahead.bytes},
                     reinterpret_cast<const void*>(kernel), [=]() SIMT_UNWATCHED { kernel(P(arguments)...); }));
  current().overlap.launched();
}

inline void take_workspace(std::byte* p, size_t bytes, size_t reserved) {
  simt::reuse(current().stream, p, bytes, reserved);
}
inline void leave_workspace(std::byte* p, size_t reserved) { simt::reuse(current().stream, p, 0, reserved); }

#endif

constexpr __host__ __device__ int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace nemotron_h::cuda
