// Memory that comes back is kept and given out again, so that a decode loop, or a layer after the first, asks the
// system for nothing. All of it belongs to the JavaScript thread; what queued work still uses is a Source's concern.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace nemotron_h {

struct MemoryInfo {
  size_t used;    // bytes that tensors hold
  size_t cached;  // bytes kept for the next tensors
  size_t free;    // bytes that tensors can still have
};

struct OutOfMemory : std::bad_alloc {
  explicit OutOfMemory(std::string text) : message(std::move(text)) {}
  const char* what() const noexcept override { return message.c_str(); }
  std::string message;
};

// A device's own memory.
class Source {
 public:
  virtual ~Source() = default;
  // Aligned to 64 bytes; null where there is none.
  virtual void* take(size_t bytes) = 0;
  // Back to the system, after the work queued so far.
  virtual void give_back(void* block, size_t bytes) = 0;
  // Waits until what was given back is there to be taken.
  virtual void settle() = 0;
  // Bytes that can still be taken.
  virtual size_t available() const = 0;
  // Bytes kept below, in reach of take() only.
  virtual size_t reserved() const { return 0; }
};

class Pool : public std::enable_shared_from_this<Pool> {
 public:
  // `max_cached`: bytes kept at most; what exceeds it goes back to the system at once.
  Pool(std::string name, std::unique_ptr<Source> source, size_t max_cached)
      : name_(std::move(name)), source_(std::move(source)), max_cached_(max_cached) {}
  ~Pool() { release_cached(); }

  // Throws OutOfMemory.
  std::shared_ptr<void> allocate(size_t bytes);
  MemoryInfo info() const { return {used_, cached_ + source_->reserved(), source_->available() + cached_}; }
  void release_cached();
  Source& source() { return *source_; }

 private:
  void* take(size_t& capacity);
  void take_back(void* block, size_t capacity);

  std::string name_;
  std::unique_ptr<Source> source_;
  size_t max_cached_;
  std::map<size_t, std::vector<void*>> blocks_;  // by capacity; no list is empty
  size_t used_ = 0, cached_ = 0;
};

// Memory of what a graph makes: blocks of a pool that are the graph's until it ends, whatever is disposed meanwhile,
// so that each replay finds its tensors where the first one did.
class Arena : public std::enable_shared_from_this<Arena> {
 public:
  explicit Arena(std::shared_ptr<Pool> pool) : pool_(std::move(pool)) {}

  std::shared_ptr<void> allocate(size_t bytes);
  bool owns(const void* address) const;
  // Gives back what no tensor holds now, and the rest when none does.
  void close();

 private:
  struct Block {
    std::shared_ptr<void> memory;
    size_t bytes;
  };

  std::shared_ptr<Pool> pool_;
  std::map<size_t, std::vector<Block>> unused_;  // by bytes
  std::map<uintptr_t, size_t> extents_;          // of all blocks: where each begins, and its bytes
  bool open_ = true;
};

}  // namespace nemotron_h
