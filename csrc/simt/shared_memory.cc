// A block's shared memory: one arena of 256 KB, addressed by 32-bit offsets as in PTX.
//
// Fresh shared memory is NaN in every format, and allocations lie apart, so that an overrun meets nobody's bytes.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "simt/asan.h"
#include "simt/machine.h"
#include "simt/shadow.h"

namespace simt {
namespace {

constexpr size_t kBytes = size_t{kArena} * kMaxCluster;

void* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return p;
}

}  // namespace

// Twice the size, so that the arena can begin at a multiple of its block's size.
SharedMemory::SharedMemory()
    : bytes(reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(reserve(2 * kBytes)) + kArena - 1) / kArena * kArena)),
      writers(static_cast<uint32_t*>(reserve(kBytes * 4))),
      readers(static_cast<uint32_t*>(reserve(kBytes * 4))),
      locks(static_cast<Lock*>(reserve(kBytes / 4 * sizeof(Lock)))) {
  ASAN_POISON_MEMORY_REGION(bytes, kBytes);
}

void claim_shared(Cluster& c, Block& b, uint32_t offset, uint32_t bytes) {
  const uint32_t at = b.rank * kArena + offset, words = (bytes + 3) / 4;
  if (offset + bytes > kArena) fail("too much shared memory");
  ASAN_UNPOISON_MEMORY_REGION(c.shared.bytes + at, bytes);
  memset(c.shared.bytes + at, 0xff, bytes);
  std::fill_n(c.shared.locks + at / 4, words, Lock{});
  if (tracking) std::fill_n(c.shared.writers + at, bytes, kNobody);
  if (tracking) std::fill_n(c.shared.readers + at, bytes, kNobody);
  b.regions.push_back({offset, offset + bytes});
  b.next_free = (offset + bytes + 63) / 32 * 32;
}

// Before the cluster's memory serves other blocks.
void forget_shared(Cluster& c) {
  for (const Block& b : c.blocks)
    for (auto [first, last] : b.regions) {
      ASAN_POISON_MEMORY_REGION(c.shared.bytes + b.rank * kArena + first, last - first);
      if (tracking) std::fill_n(c.shared.writers + b.rank * kArena + first, last - first, kOutside);
    }
}

uint32_t position(uint32_t address, uint32_t bytes, const char* what, uint32_t alignment) {
  const bool named = address & kClusterFlag;
  const Block& b = named ? current->blocks[(address & ~kClusterFlag) / kArena] : here();
  const uint32_t offset = named ? (address & ~kClusterFlag) % kArena : address;
  if (offset % alignment) fail(format("%s: shared address 0x%x is not a multiple of %u", what, address, alignment));
  for (auto [first, last] : b.regions)
    if (offset >= first && offset + bytes <= last) return b.rank * kArena + offset;
  fail(format("%s: shared addresses 0x%x to 0x%x lie outside the block's shared memory", what, offset, offset + bytes));
}

std::string place(uint32_t pos) {
  return format("smem+0x%x", pos % kArena) +
         (current->blocks.size() > 1 ? format(" of block %u of the cluster", pos / kArena) : "");
}

void* dynamic_smem() { return current->shared.bytes + here().rank * kArena + kFirst; }

void* static_smem(const void* declaration, size_t bytes, size_t alignment) {
  Block& b = here();
  char* const base = current->shared.bytes + b.rank * kArena;
  for (auto [key, offset] : b.statics)
    if (key == declaration) return base + offset;
  const uint32_t offset = (b.next_free + alignment - 1) / alignment * alignment;
  claim_shared(*current, b, offset, bytes);
  b.statics.push_back({declaration, offset});
  return base + offset;
}

uint32_t shared_address(const void* p) {
  const uintptr_t pos = static_cast<const char*>(p) - current->shared.bytes;
  if (pos >= kBytes) fail("takes the shared address of something that is not in shared memory");
  return pos / kArena == here().rank ? pos % kArena : pos | kClusterFlag;
}

}  // namespace simt
