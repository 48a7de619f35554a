#include "cpu/memory.h"

#include <sys/mman.h>

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

namespace nemotron_h::cpu {
namespace {

constexpr size_t kHuge = size_t{2} << 20;
constexpr size_t kAskFirst = size_t{64} << 20;  // smaller requests are not worth reading /proc for

// Capacities grow in eighths of a power of two: a block fits again when sizes vary a little.
size_t capacity_for(size_t bytes) {
  if (bytes <= 512) return bytes <= 64 ? 64 : std::bit_ceil(bytes);
  const size_t step = std::bit_floor(bytes - 1) / 8;
  return (bytes + step - 1) / step * step;
}

std::string gibibytes(size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

size_t read_number(const char* path) {
  std::ifstream file(path);
  size_t n = 0;
  return file >> n ? n : SIZE_MAX;  // absent, or "max"
}

}  // namespace

size_t available_memory() {
  size_t available = SIZE_MAX;
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key, unit; meminfo >> key;) {
    size_t n = 0;
    meminfo >> n;
    std::getline(meminfo, unit);
    if (key == "MemAvailable:") {
      available = n * 1024;
      break;
    }
  }
  const size_t limit = read_number("/sys/fs/cgroup/memory.max"), used = read_number("/sys/fs/cgroup/memory.current");
  if (limit != SIZE_MAX && used != SIZE_MAX) available = std::min(available, limit > used ? limit - used : 0);
  return available;
}

Pool::~Pool() { release_cached(); }

std::shared_ptr<void> Pool::allocate(size_t bytes) {
  const size_t capacity = bytes <= (size_t{1} << 62) ? capacity_for(bytes) : SIZE_MAX;
  void* block = nullptr;
  if (auto found = blocks_.find(capacity); found != blocks_.end() && !found->second.empty()) {
    block = found->second.back();
    found->second.pop_back();
    cached_ -= capacity;
  }
  if (!block && capacity < kAskFirst) block = std::aligned_alloc(64, capacity);
  else if (!block && capacity <= available_memory() + cached_) {
    const size_t whole = (capacity + kHuge - 1) / kHuge * kHuge;
    block = std::aligned_alloc(kHuge, whole);
    if (block) ::madvise(block, whole, MADV_HUGEPAGE);
  }
  if (!block) throw OutOfMemory("cpu: out of memory: asked for " + gibibytes(bytes) + ", " + gibibytes(available_memory()) + " free");
  used_ += capacity;
  return {block, [pool = shared_from_this(), capacity](void* p) { pool->take_back(p, capacity); }};
}

void Pool::take_back(void* block, size_t capacity) {
  used_ -= capacity;
  if (cached_ + capacity > kMaxCached) return release(block);
  blocks_[capacity].push_back(block);
  cached_ += capacity;
}

MemoryInfo Pool::info() const { return {used_, cached_, available_memory()}; }

void Pool::release_cached() {
  for (auto& [capacity, list] : blocks_)
    for (void* block : list) release(block);
  blocks_.clear();
  cached_ = 0;
}

}  // namespace nemotron_h::cpu
