// Who last wrote and read each piece of memory, and when: cells.
//
// Shared memory has a cell of 32 bits for each byte, global memory one of 64 bits for each 4 bytes. Racing host threads
// may overwrite each other's cells of global memory; then an access is forgotten, but none is made up.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

// ---- Shared memory: number of the thread in its cluster (13 bits), atomic (1), time (18); time 0 is these:
inline constexpr uint32_t kOutside = 0, kNobody = 1u << 19, kAsync = 2u << 19;
inline constexpr uint32_t kAtomic = 1u << 18, kTime = kAtomic - 1;

// ---- Global memory: launch (12), cluster (20), thread (13), time (15), bytes of the four (4; none: an atomic access)
inline constexpr uint64_t kUnallocated = 0, kUnwritten = 1, kEarlier = 2;  // launch 0
inline constexpr int kLaunchShift = 52, kClusterShift = 32, kThreadShift = 19, kTimeShift = 4;

struct Granule {
  uint64_t writer, reader, other_reader;  // other_reader: the last of another cluster than the last reader's
};

// Global memory: addresses reserved once, given out and never reused.
inline constexpr size_t kHeapBytes = size_t{1} << 40;
extern char* const heap;
extern Granule* const granules;  // of the heap's 4-byte words; kUnallocated until they are given out
inline Granule& granule_of(const char* p) { return granules[(p - heap) / 4]; }

}  // namespace simt
