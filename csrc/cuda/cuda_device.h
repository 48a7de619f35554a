// A GPU as a device: one thread launches what was submitted, in order, and another waits for the GPU, so that neither
// a full launch queue nor a read ever makes JavaScript's thread wait.
#pragma once

#include "cuda/context.h"
#include "cuda/memory.h"
#include "cuda/staging.h"
#include "cuda/stream_trace.h"
#include "device.h"

namespace nemotron_h::cuda {

class CudaDevice final : public Device {
 public:
  // Throws what CUDA says.
  CudaDevice(const std::string& name, int index);
  // Drops what has not begun, and waits for what has: also for the GPU, as its work cannot be taken back.
  ~CudaDevice() override;

  void release_cached() override;
  void upload(std::shared_ptr<const void> source, DType as, Tensor to) override;
  void read(Tensor from, DType as, void* host, Done done) override;

 private:
  struct Reading;

  void open();
  void close();  // also where open() has thrown half way
  void enqueue(const char* op, std::function<void()> work) override;
  std::shared_ptr<std::vector<Job>> compile(std::shared_ptr<std::vector<Job>> recorded) override;
  void start_tracing() override;
  Trace stop_tracing() override;
  void fetch(const Tensor& from, DType as, std::byte* host, const std::shared_ptr<Reading>& reading);
  void fetch_fault(const std::shared_ptr<Reading>& reading);
  DeviceMemory& device_memory() { return static_cast<DeviceMemory&>(pool().source()); }

  const int index_;
  Context context_{};
  cudaEvent_t freed_ = nullptr;
  std::unique_ptr<StreamTrace> trace_;  // the submission thread's
  Ring small_uploads_, large_uploads_, small_reads_, large_reads_, faults_;  // the submission thread's
  Queue submission_, completion_;
};

}  // namespace nemotron_h::cuda
