// What a device does: memory, and a queue of work that runs in the order it was submitted.
//
// Nothing here waits. submit() returns at once; what an op throws while it runs is kept, with the
// op's name, and handed to the next read, which is the only thing that reports back. A device belongs to one
// JavaScript thread, which alone calls it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pool.h"
#include "queue.h"
#include "tensor.h"
#include "trace.h"

namespace nemotron_h {

// Whose functions of ops.def run on a device.
enum class Backend { cpu, cuda };

// Ops recorded to be run again and again, on the same memory.
class Graph {
 public:
  explicit Graph(std::shared_ptr<Pool> pool) : arena_(std::make_shared<Arena>(std::move(pool))) {}
  ~Graph() { arena_->close(); }
  Graph(const Graph&) = delete;

 private:
  friend class Device;
  std::shared_ptr<Arena> arena_;             // of tensors made while it was recorded
  std::vector<std::shared_ptr<void>> kept_;  // memory of tensors made before
  std::shared_ptr<std::vector<Job>> recorded_ = std::make_shared<std::vector<Job>>();
  std::shared_ptr<std::vector<Job>> compiled_;  // what replays run; may be what was recorded
};

class Device {
 public:
  // Called once, on any thread, with what went wrong since the last read; empty if nothing did.
  using Done = std::function<void(std::string error)>;

  Device(Backend backend, std::string name, std::unique_ptr<Source> memory, size_t max_cached)
      : backend(backend), name(std::move(name)), pool_(std::make_shared<Pool>(this->name, std::move(memory), max_cached)) {}
  virtual ~Device() = default;

  const Backend backend;
  const std::string name;

  // Uninitialised memory, aligned to 64 bytes. Throws OutOfMemory.
  //
  // Memory is ordered as the work is: when the last share is dropped, the block goes to tensors made later,
  // whose work comes later in the queue, and it returns to the system by way of the queue. So queued work
  // only borrows its tensors, and a layer's intermediates are the next layer's before either has run.
  std::shared_ptr<void> allocate(size_t bytes) { return graph_ ? graph_->arena_->allocate(bytes) : pool_->allocate(bytes); }
  MemoryInfo memory() const { return pool_->info(); }
  virtual void release_cached() { pool_->release_cached(); }

  // Runs an op's work, or records it. keep() is told each tensor that the work borrows.
  void submit(const char* op, std::function<void()> work);
  void keep(const Tensor& tensor);

  // Host memory to `to`, converting from `as` to its dtype. `source` is kept until then.
  virtual void upload(std::shared_ptr<const void> source, DType as, Tensor to) = 0;
  // `from` to dense host memory, converted to `as`. `host` must stay valid until `done`.
  virtual void read(Tensor from, DType as, void* host, Done done) = 0;

  // From here to end_capture(), ops are recorded and not run, and nothing is uploaded or read.
  void begin_capture() { graph_ = std::make_unique<Graph>(pool_); }
  std::unique_ptr<Graph> end_capture();
  void cancel_capture() { graph_ = nullptr; }
  bool capturing() const { return graph_ != nullptr; }
  // Queues the recorded work once more, as one job.
  void replay(const Graph& graph);

  // From here to end_trace(), it is noted when each op runs. Replays run op by op.
  void begin_trace();
  // Waits for what is queued, which is short after a read.
  Trace end_trace();
  bool tracing() const { return tracing_; }

 protected:
  virtual void enqueue(const char* op, std::function<void()> work) = 0;
  // What replays run for what was recorded.
  virtual std::shared_ptr<std::vector<Job>> compile(std::shared_ptr<std::vector<Job>> recorded) { return recorded; }
  // Of what is queued from here on.
  virtual void start_tracing() = 0;
  virtual Trace stop_tracing() = 0;
  Pool& pool() { return *pool_; }

 private:
  std::shared_ptr<Pool> pool_;
  std::unique_ptr<Graph> graph_;  // being recorded
  bool tracing_ = false;
};

}  // namespace nemotron_h
