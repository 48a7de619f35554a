// The CPU as a device: a thread of its own that runs what was submitted, in order, so that the event loop
// never waits for an op.
#pragma once

#include "device.h"

namespace nemotron_h::cpu {

class HostMemory;

class CpuDevice final : public Device {
 public:
  CpuDevice() : CpuDevice(std::make_unique<Queue>()) {}
  ~CpuDevice() override;  // drops what has not begun, and waits for what has

  void release_cached() override;
  void upload(std::shared_ptr<const void> source, DType as, Tensor to) override;
  void read(Tensor from, DType as, void* host, Done done) override;

 private:
  explicit CpuDevice(std::unique_ptr<Queue> queue);
  void enqueue(const char* op, std::function<void()> work) override;
  void start_tracing() override {}
  Trace stop_tracing() override;

  std::vector<Span> spans_;  // the queue's thread's
  std::unique_ptr<Queue> queue_;
};

}  // namespace nemotron_h::cpu
