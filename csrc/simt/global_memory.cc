// Device memory: where it comes from, and what the shadow starts with.
//
// Addresses are never given out twice, so the shadow knows a use after the release as well as one past the end.
#include <sys/mman.h>

#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <shared_mutex>

#include "simt/asan.h"
#include "simt/machine.h"
#include "simt/report.h"
#include "simt/shadow.h"

namespace simt {
namespace {

constexpr size_t kAlignment = 256, kGap = 256, kPage = 4096;

void* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return p;
}

std::mutex mutex;
std::map<const char*, size_t>& live() {  // allocations and their sizes
  static auto& map = *new std::map<const char*, size_t>;
  return map;
}
size_t used = 0;

// Gives whole pages back to the system; they read as zeros from then on.
void drop(void* from, void* to) {
  const uintptr_t first = (reinterpret_cast<uintptr_t>(from) + kPage - 1) / kPage * kPage,
                  last = reinterpret_cast<uintptr_t>(to) / kPage * kPage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

void set_writers(char* p, size_t bytes, uint64_t cell) {
  Granule* const first = &granule_of(p);
  for (size_t i = 0; i < (bytes + 3) / 4; i++) first[i] = {cell, 0, 0};
}

// The allocation that holds p, or live().end().
auto find(const void* p) {
  auto next = live().upper_bound(static_cast<const char*>(p));
  if (next == live().begin()) return live().end();
  --next;
  return static_cast<const char*>(p) < next->first + next->second ? next : live().end();
}

void check(const char* what, const void* p, size_t bytes) {
  if (bytes == 0) return;
  std::lock_guard lock(mutex);
  const auto found = find(p);
  if (found == live().end() || static_cast<const char*>(p) + bytes > found->first + found->second)
    throw Error(format("simt: %s %zu bytes at %p, which do not lie in one allocation of device memory", what, bytes, p));
}

// Launches hold this while they run, and alone when their numbers begin again.
std::shared_mutex numbers;
std::atomic<uint32_t> last_number{0};
constexpr uint32_t kNumbers = 1 << (64 - kLaunchShift);

}  // namespace

char* const heap = static_cast<char*>(reserve(kHeapBytes));
Granule* const granules = static_cast<Granule*>(reserve(kHeapBytes / 4 * sizeof(Granule)));

void* allocate(size_t bytes) {
  std::lock_guard lock(mutex);
  if (bytes > kHeapBytes - used - kGap) return nullptr;
  char* const p = heap + used;
  used = (used + bytes + kGap + kAlignment - 1) / kAlignment * kAlignment;
  memset(p, 0xff, bytes);
  if (tracking) set_writers(p, bytes, kUnwritten);
  ASAN_POISON_MEMORY_REGION(p + bytes, heap + used - (p + bytes));
  live()[p] = bytes;
  return p;
}

void release(void* p) {
  if (!p) return;
  std::lock_guard lock(mutex);
  const auto found = live().find(static_cast<char*>(p));
  if (found == live().end()) throw Error(format("simt: release of %p, which is no allocation of device memory", p));
  char* const from = heap + (found->first - heap);
  const size_t bytes = found->second;
  live().erase(found);
  drop(from, from + bytes);
  ASAN_POISON_MEMORY_REGION(from, bytes);
  if (!tracking) return;
  set_writers(from, bytes, kUnallocated);
  drop(&granule_of(from), &granule_of(from + bytes));
}

void reuse(void* p, size_t bytes, size_t reserved) {
  char* const from = static_cast<char*>(p);
  check("a graph or an op takes", p, reserved);
  ASAN_UNPOISON_MEMORY_REGION(from, bytes);
  ASAN_POISON_MEMORY_REGION(from + bytes, reserved - bytes);
  memset(from, 0xff, bytes);
  if (!tracking) return;
  const size_t whole = (bytes + 3) / 4 * 4;
  set_writers(from, bytes, kUnwritten);
  set_writers(from + whole, reserved - whole, kUnallocated);
}

void host_writes(void* p, size_t bytes) {
  check("a copy writes", p, bytes);
  if (tracking && bytes) set_writers(static_cast<char*>(p), bytes, kEarlier);
}

std::string place_in_global(const void* p) {
  std::lock_guard lock(mutex);
  auto next = live().upper_bound(static_cast<const char*>(p));
  if (next == live().begin()) return format("%p", p);
  --next;
  return format("byte %zu of the %zu at %p", static_cast<const char*>(p) - next->first, next->second,
                static_cast<const void*>(next->first));
}

LaunchNumber::LaunchNumber() {
  numbers.lock_shared();
  number_ = ++last_number;
  if (number_ < kNumbers) return;
  numbers.unlock_shared();
  {
    std::lock_guard alone(numbers);
    if (last_number >= kNumbers) {
      std::lock_guard lock(mutex);
      for (auto [p, bytes] : live())
        for (const char* at = p; tracking && at < p + bytes; at += 4) {
          Granule& g = granule_of(at);
          g = {g.writer == kUnwritten || g.writer == kUnallocated ? g.writer : kEarlier, 0, 0};
        }
      last_number = 0;
    }
  }
  numbers.lock_shared();
  number_ = ++last_number;
}

LaunchNumber::~LaunchNumber() { numbers.unlock_shared(); }

}  // namespace simt
