// The emulated CUDA runtime: what csrc/cuda asks of <cuda_runtime_api.h>, for two GPUs that are not there.
//
// As strict as the programming model lets it be: a stream's operations run when somebody waits for them and no earlier
// (or at random, by seed), host memory of an asynchronous copy must be pinned, device memory begins as 0xff, and what
// a kernel or copy does wrong is told by the next wait as an error of CUDA whose text is the emulator's report.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string>

namespace simt {

inline constexpr int kDevices = 2;

// ---- runtime.cc: errors, devices, memory

// For the calling thread's next question about its last error.
cudaError_t error(cudaError_t status, const std::string& detail = {});

// The device that the calling thread has chosen.
int current_device();

// Host or device, both ends of a copy exist while it runs; throws Error.
void check_copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
void check_device_range(const void* p, size_t bytes, const char* what);
bool is_pinned(const void* p, size_t bytes);

// ---- streams.cc: what runs in order

// Runs after all that the stream was given before; one that is capturing records it instead.
cudaError_t enqueue(cudaStream_t stream, std::function<void()> operation);
bool capturing(cudaStream_t stream);

}  // namespace simt
