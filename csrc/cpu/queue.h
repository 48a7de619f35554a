// The CPU as a device: a thread of its own that runs what was submitted, in order, so that the event loop
// never waits for an op.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "cpu/memory.h"
#include "device.h"

namespace nemotron_h::cpu {

class CpuDevice final : public Device {
 public:
  CpuDevice();
  ~CpuDevice() override;  // drops what has not begun, and waits for what has

  const char* name() const override { return "cpu"; }
  std::shared_ptr<void> allocate(size_t bytes) override { return pool_->allocate(bytes); }
  MemoryInfo memory() const override { return pool_->info(); }
  void release_cached() override;
  void submit(const char* op, std::function<void()> work) override;
  void upload(std::shared_ptr<const void> source, DType as, Tensor to) override;
  void read(Tensor from, DType as, void* host, Done done) override;

 private:
  struct Job {
    const char* op;
    std::function<void()> work;
  };
  void run();

  std::shared_ptr<Pool> pool_ = std::make_shared<Pool>();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::string error_;  // the first since the last read; the thread's own
  std::thread thread_;
};

}  // namespace nemotron_h::cpu
