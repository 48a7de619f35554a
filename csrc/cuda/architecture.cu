#include "cuda/architecture.h"

#include "cuda/launch.cuh"

namespace nemotron_h::cuda {
namespace {

__global__ void any_kernel() {}  // all are compiled alike

}  // namespace

int architecture() {
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(any_kernel)));
  return attributes.ptxVersion;
}

}  // namespace nemotron_h::cuda
