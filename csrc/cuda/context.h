// Where an op's work goes: the stream of the device that runs it, set by the device around every op.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "cuda/faults.h"

namespace nemotron_h::cuda {

struct Context {
  cudaStream_t stream;
  cudaMemPool_t pool;
  Fault* fault;      // on the device: the first thing a kernel found wrong since the last read
  const char* op;    // its name in JavaScript; lives as long as the process
  int architecture;  // that its kernels were compiled for (architecture.h)
  int processors;    // SMs
  unsigned* tickets;  // on the device, kTickets of 0, by which blocks take turns; 0 again after every kernel
};
inline constexpr int kTickets = 1 << 14;

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

// Uninitialised device memory for the rest of an op, given back in the order of the stream.
class Scratch {
 public:
  explicit Scratch(size_t bytes) {
    check(cudaMallocFromPoolAsync(&data_, bytes ? bytes : 1, current().pool, current().stream));
  }
  ~Scratch() { cudaFreeAsync(data_, current().stream); }
  Scratch(const Scratch&) = delete;
  template <class T>
  T* as() const { return static_cast<T*>(data_); }

 private:
  void* data_ = nullptr;
};

}  // namespace nemotron_h::cuda
