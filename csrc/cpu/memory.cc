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

// Where the system does not tell: more than there is, and still a number that can be added to.
constexpr size_t kUnknown = SIZE_MAX / 2;

// A line of /proc/meminfo, in bytes.
size_t read_meminfo(const std::string& wanted) {
  std::ifstream meminfo("/proc/meminfo");
  std::string key, rest;
  for (size_t n; meminfo >> key >> n && std::getline(meminfo, rest);)
    if (key == wanted) return n * 1024;
  return kUnknown;
}

size_t read_number(const char* path) {
  std::ifstream file(path);
  size_t n = 0;
  return file >> n ? n : kUnknown;  // absent, or "max"
}

// Bytes that the system and this process's control group can still give.
size_t available_memory() {
  const size_t available = read_meminfo("MemAvailable:");
  const size_t limit = read_number("/sys/fs/cgroup/memory.max"), used = read_number("/sys/fs/cgroup/memory.current");
  if (limit == kUnknown || used == kUnknown) return available;
  return std::min(available, limit > used ? limit - used : 0);
}

}  // namespace

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
  else if (!block && capacity <= room()) {
    const size_t whole = (capacity + kHuge - 1) / kHuge * kHuge;
    block = std::aligned_alloc(kHuge, whole);
    if (block) ::madvise(block, whole, MADV_HUGEPAGE);
  }
  if (!block) throw OutOfMemory("cpu: out of memory: asked for " + gibibytes(bytes) + ", " + gibibytes(room()) + " free");
  used_ += capacity;
  return {block, [pool = shared_from_this(), capacity](void* p) { pool->take_back(p, capacity); }};
}

size_t Pool::room() const {
  // What tensors hold and nobody has written to still counts as available: so look at the whole memory too.
  const size_t whole = std::min(read_meminfo("MemTotal:"), read_number("/sys/fs/cgroup/memory.max"));
  return std::min(available_memory() + cached_, whole > used_ ? whole - used_ : 0);
}

void Pool::take_back(void* block, size_t capacity) {
  used_ -= capacity;
  if (cached_ + capacity > kMaxCached) return release(block);
  blocks_[capacity].push_back(block);
  cached_ += capacity;
}

MemoryInfo Pool::info() const { return {used_, cached_, room()}; }

void Pool::release_cached() {
  for (auto& [capacity, list] : blocks_)
    for (void* block : list) release(block);
  blocks_.clear();
  cached_ = 0;
}

}  // namespace nemotron_h::cpu
