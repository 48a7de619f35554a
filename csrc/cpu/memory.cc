#include "cpu/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

namespace nemotron_h::cpu {
namespace {

constexpr size_t kHuge = size_t{2} << 20;
constexpr size_t kAskFirst = size_t{64} << 20;  // smaller requests are not worth reading /proc for

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

void* HostMemory::take(size_t bytes) {
  void* block = nullptr;
  if (bytes < kAskFirst) block = std::aligned_alloc(64, bytes);
  else if (bytes <= available()) {
    const size_t whole = (bytes + kHuge - 1) / kHuge * kHuge;
    block = std::aligned_alloc(kHuge, whole);
    if (block) ::madvise(block, whole, MADV_HUGEPAGE);
  }
  if (block) taken_ += bytes;
  return block;
}

void HostMemory::give_back(void* block, size_t bytes) {
  taken_ -= bytes;
  const std::shared_ptr<void> freed(block, std::free);
  if (queue_) queue_->submit("free", [freed] {});
}

size_t HostMemory::available() const {
  // What tensors hold and nobody has written to still counts as available: so look at the whole memory too.
  const size_t whole = std::min(read_meminfo("MemTotal:"), read_number("/sys/fs/cgroup/memory.max"));
  return std::min(available_memory(), whole > taken_ ? whole - taken_ : 0);
}

}  // namespace nemotron_h::cpu
