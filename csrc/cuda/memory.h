// A GPU's memory as tensors have it: blocks of a stream-ordered pool.
//
// JavaScript's thread takes blocks at once, on a stream of their own, where nothing waits for work; they are freed on
// the stream of the work that used them, in its order.
#pragma once

#include <cuda_runtime_api.h>

#include "pool.h"
#include "queue.h"

namespace nemotron_h::cuda {

class DeviceMemory final : public Source {
 public:
  explicit DeviceMemory(int index);
  ~DeviceMemory() override;

  void* take(size_t bytes) override;
  void give_back(void* block, size_t bytes) override;
  void settle() override;
  size_t available() const override { return free_bytes() + reserved(); }
  size_t reserved() const override;

  // Until detach(), blocks are in use by work that `queue` puts on `stream`.
  void attach(Queue& queue, cudaStream_t stream) { queue_ = &queue, work_ = stream; }
  // The queue is gone and the stream empty; tensors may still be alive.
  void detach() { queue_ = nullptr, work_ = stream_; }

  cudaMemPool_t pool() const { return pool_; }
  static size_t total_bytes(int index);

 private:
  size_t free_bytes() const;

  int index_;
  cudaMemPool_t pool_ = nullptr;
  cudaStream_t stream_ = nullptr;  // of allocations only
  cudaStream_t work_ = nullptr;
  Queue* queue_ = nullptr;
};

}  // namespace nemotron_h::cuda
