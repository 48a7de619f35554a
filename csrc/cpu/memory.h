// The machine's memory as tensors have it: aligned, large blocks in large pages, and no more than there is.
#pragma once

#include "pool.h"
#include "queue.h"

namespace nemotron_h::cpu {

class HostMemory final : public Source {
 public:
  explicit HostMemory(Queue& queue) : queue_(&queue) {}

  void* take(size_t bytes) override;
  void give_back(void* block, size_t bytes) override;
  void settle() override { queue_->drain(); }
  size_t available() const override;

  // The queue is gone: nothing runs any more, and tensors may still be alive.
  void detach() { queue_ = nullptr; }

 private:
  Queue* queue_;
  size_t taken_ = 0;
};

}  // namespace nemotron_h::cpu
