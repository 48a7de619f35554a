// Where an op's work goes: the stream of the device that runs it, set by the device around every op.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "cuda/faults.h"
#include "cuda/overlap.h"

namespace nemotron_h::cuda {

struct Context {
  cudaStream_t stream;
  cudaMemPool_t pool;
  Fault* fault;      // on the device: the first thing a kernel found wrong since the last read
  const char* op;    // its name in JavaScript; lives as long as the process
  int architecture;  // that its kernels were compiled for (architecture.h)
  int processors;    // SMs
  unsigned* tickets;  // on the device, kTickets of 0, by which blocks take turns; 0 again after every kernel
  std::byte* workspace;   // on the device, kWorkspace bytes: Scratch of the op that runs,
  size_t workspace_used;  // so many of them
  Overlap overlap;
};
inline constexpr int kTickets = 1 << 14;
inline constexpr size_t kWorkspace = size_t{32} << 20;  // what the ops of a decode step take

// Of the op that this thread is running.
Context& current();

// "cudaErrorInvalidValue: invalid argument", or nothing where it is none.
inline std::string text(cudaError_t status) {
  if (status == cudaSuccess) return {};
  return std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status);
}

// That, thrown.
inline void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // what is thrown is told; a later launch must not tell it again
  throw std::runtime_error(text(status));
}

}  // namespace nemotron_h::cuda
