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

#include "tensor.h"

namespace nemotron_h {

struct MemoryInfo {
  size_t used;    // bytes that tensors hold
  size_t cached;  // bytes kept for the next tensors
  size_t free;    // bytes the system can still give
};

class Device {
 public:
  // Called once, on any thread, with what went wrong since the last read; empty if nothing did.
  using Done = std::function<void(std::string error)>;

  virtual ~Device() = default;
  virtual const char* name() const = 0;

  // Uninitialised memory, aligned to 64 bytes. Throws OutOfMemory.
  //
  // Memory is ordered as the work is: when the last share is dropped, the block goes to tensors made later,
  // whose work comes later in the queue, and it returns to the system by way of the queue. So queued work
  // only borrows its tensors, and a layer's intermediates are the next layer's before either has run.
  virtual std::shared_ptr<void> allocate(size_t bytes) = 0;
  virtual MemoryInfo memory() const = 0;
  virtual void release_cached() = 0;

  virtual void submit(const char* op, std::function<void()> work) = 0;

  // Host memory to `to`, converting from `as` to its dtype. `source` is kept until then.
  virtual void upload(std::shared_ptr<const void> source, DType as, Tensor to) = 0;
  // `from` to dense host memory, converted to `as`. `host` must stay valid until `done`.
  virtual void read(Tensor from, DType as, void* host, Done done) = 0;
};

struct OutOfMemory : std::bad_alloc {
  explicit OutOfMemory(std::string text) : message(std::move(text)) {}
  const char* what() const noexcept override { return message.c_str(); }
  std::string message;
};

}  // namespace nemotron_h
