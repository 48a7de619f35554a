// The CPU's memory: blocks are kept when they come back and given out again, so that a decode loop, or a
// layer after the first, touches no new pages.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "device.h"

namespace nemotron_h::cpu {

class Pool : public std::enable_shared_from_this<Pool> {
 public:
  ~Pool();
  std::shared_ptr<void> allocate(size_t bytes);
  MemoryInfo info() const;
  void release_cached();

  std::function<void(void*)> release;  // gives a block back to the system, after the work that still uses it

 private:
  void take_back(void* block, size_t capacity);
  size_t room() const;  // bytes that a tensor can still have

  // Enough for the activations of a prefill chunk; what exceeds it goes back to the system at once.
  static constexpr size_t kMaxCached = size_t{256} << 20;

  std::map<size_t, std::vector<void*>> blocks_;  // by capacity
  size_t used_ = 0, cached_ = 0;
};

}  // namespace nemotron_h::cpu
