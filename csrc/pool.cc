#include "pool.h"

#include <bit>
#include <cstdint>
#include <cstdio>
#include <utility>

namespace nemotron_h {
namespace {

// Capacities grow in 32nds of a power of two, so that a block fits again when sizes vary a little.
size_t capacity_for(size_t bytes) {
  if (bytes <= 2048) return bytes <= 64 ? 64 : std::bit_ceil(bytes);
  const size_t step = std::bit_floor(bytes - 1) / 32;
  return (bytes + step - 1) / step * step;
}

std::string gibibytes(size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

}  // namespace

std::shared_ptr<void> Pool::allocate(size_t bytes) {
  size_t capacity = bytes <= (size_t{1} << 62) ? capacity_for(bytes) : SIZE_MAX;
  void* block = take(capacity);
  if (!block) {
    release_cached();
    source_->settle();
    block = source_->take(capacity);
  }
  if (!block)
    throw OutOfMemory(name_ + ": out of memory: asked for " + gibibytes(bytes) + ", " + gibibytes(info().free) + " free");
  used_ += capacity;
  return {block, [pool = shared_from_this(), capacity](void* p) { pool->take_back(p, capacity); }};
}

// A block that came back, at most a quarter too large, or a new one.
void* Pool::take(size_t& capacity) {
  const auto found = blocks_.lower_bound(capacity);
  if (found == blocks_.end() || found->first - capacity > capacity / 4) return source_->take(capacity);
  void* block = found->second.back();
  capacity = found->first;
  found->second.pop_back();
  if (found->second.empty()) blocks_.erase(found);
  cached_ -= capacity;
  return block;
}

void Pool::take_back(void* block, size_t capacity) {
  used_ -= capacity;
  if (cached_ + capacity > max_cached_) return source_->give_back(block, capacity);
  blocks_[capacity].push_back(block);
  cached_ += capacity;
}

void Pool::release_cached() {
  for (const auto& [capacity, list] : blocks_)
    for (void* block : list) source_->give_back(block, capacity);
  blocks_.clear();
  cached_ = 0;
}

std::shared_ptr<void> Arena::allocate(size_t bytes) {
  Block block;
  if (const auto found = unused_.find(bytes); found != unused_.end() && !found->second.empty()) {
    block = std::move(found->second.back());
    found->second.pop_back();
  } else {
    block = {pool_->allocate(bytes), bytes};
    extents_[reinterpret_cast<uintptr_t>(block.memory.get())] = bytes;
  }
  void* address = block.memory.get();
  return {address, [arena = shared_from_this(), block = std::move(block)](void*) mutable {
            if (arena->open_) arena->unused_[block.bytes].push_back(std::move(block));
          }};
}

bool Arena::owns(const void* address) const {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto after = extents_.upper_bound(at);
  return after != extents_.begin() && at - std::prev(after)->first < std::prev(after)->second;
}

void Arena::close() {
  open_ = false;
  unused_.clear();
}

}  // namespace nemotron_h
