// mbarrier, TMA and bulk copies: what completes by counting bytes, and what a thread waits for by groups.
#include <cstring>

#include "simt/machine.h"

namespace simt {
namespace {

// As on the device, an mbarrier is one 64-bit word, so kernels can place and copy addresses freely.
struct __attribute__((may_alias)) Mbarrier {
  uint64_t phase : 1, count : 20, pending : 20;
  int64_t tx : 21;
  uint64_t alive : 2;  // 1 when initialised; fresh (NaN) memory reads 3
};
static_assert(sizeof(Mbarrier) == 8);

Mbarrier& live(uint32_t pos, const char* name) {
  auto& b = current->shared.at<Mbarrier>(pos);
  if (b.alive != 1)
    fail(format("%s: no initialised mbarrier at %s, or something overwrote it", name, place(pos).c_str()));
  if (const Block& block = current->blocks[pos / kArena]; block.exited == block.threads)
    fail(format("%s: the block of the mbarrier at %s has ended", name, place(pos).c_str()));
  return b;
}
uint32_t position_of(const Mbarrier& b) { return reinterpret_cast<const char*>(&b) - current->shared.bytes; }

Mbarrier& mbarrier(uint32_t address, const char* name) {
  const uint32_t pos = position(address, 8, name, 8);
  Mbarrier& b = live(pos, name);
  on_shared(pos, 8, Access::atomic_read);  // its initialisation must have happened before
  return b;
}

void add_tx(Mbarrier& b, int64_t bytes) {
  const int64_t tx = b.tx + bytes;
  if (tx >= 1 << 20 || tx <= -(1 << 20))
    fail(format("mbarrier %s: tx-count %ld is out of range", place(position_of(b)).c_str(), long(tx)));
  b.tx = tx;
}
void finish_phase(Mbarrier& b) {
  if (b.pending || b.tx) return;
  b.phase ^= 1;
  b.pending = b.count;
  current->mbarriers[position_of(b)].complete();
  wake(&b);
}

uint32_t swizzle_128b(uint32_t offset) { return offset ^ (offset >> 7 & 7) << 4; }

// Calls f(shared offset, global pointer or null, bytes) for the pieces of a box; null outside the tensor.
template <class F>
void for_box(const TensorMap& map, int column, int row, uint32_t offset, F f) {
  for (unsigned r = 0; r < map.box_rows; r++)
    for (unsigned c = 0; c < map.box_columns; c++, offset += map.element_bytes) {
      const int64_t y = int64_t(row) + r, x = int64_t(column) + c;
      const bool inside = y >= 0 && x >= 0 && y < int64_t(map.rows) && x < int64_t(map.columns);
      char* const at = static_cast<char*>(map.base) + y * int64_t(map.pitch_bytes) + x * map.element_bytes;
      f(map.swizzle_128b ? swizzle_128b(offset) : offset, inside ? at : nullptr, map.element_bytes);
    }
}

uint32_t box_bytes(const TensorMap& map) { return map.box_rows * map.box_columns * map.element_bytes; }

uint32_t box_position(const TensorMap& map, uint32_t address, const char* name) {
  if (map.swizzle_128b && map.box_columns * map.element_bytes != 128)
    fail(format("%s: only 128-byte box rows are modelled with SWIZZLE_128B", name));
  if (reinterpret_cast<uintptr_t>(map.base) % 16 || map.pitch_bytes % 16)
    fail(format("%s: tensor base and row pitch must be multiples of 16 bytes", name));
  return position(address, box_bytes(map), name, map.swizzle_128b ? 1024 : 128);
}

// Bytes land in the phase in which the copy was issued; if that phase is over, it did not expect them.
void launch_load(std::string name, uint32_t pos, uint32_t bytes, uint32_t barrier_pos, std::function<void()> copy) {
  const Mbarrier& barrier = live(barrier_pos, name.c_str());
  const auto complete = [=, phase = barrier.phase] {
    copy();
    Mbarrier& b = live(barrier_pos, name.c_str());
    if (b.phase != phase)
      fail(format("mbarrier %s completed its phase before %s landed: expect_tx was too small",
                  place(barrier_pos).c_str(), name.c_str()));
    add_tx(b, -int64_t(bytes));
    finish_phase(b);
  };
  launch_operation({name, &barrier, false, true, {{pos, (bytes + 3) / 4 * 4}}, nullptr, complete});
}

// A store reads its shared memory first; what it read arrives in global memory later.
void launch_store(std::string name, uint32_t pos, uint32_t bytes, std::function<void(const char*)> write) {
  Thread& t = *running;
  Cluster& c = *current;
  t.bulk_issued++;
  launch_operation({name, &t.bulk_read, true, false, {{pos, (bytes + 3) / 4 * 4}}, nullptr, [=, &t, &c] {
    t.bulk_read++;
    const std::string data(c.shared.bytes + pos, bytes);
    const auto arrive = [=, &t] { write(data.data()), t.bulk_done++; };
    c.in_flight.push_back({name, &t.bulk_done, true, false, {}, nullptr, arrive});
  }});
}

void wait_for_stores(const uint64_t& done, uint64_t target, const char* name, unsigned groups_left) {
  while (done < target) wait(&done, [&] { return format("%s %u", name, groups_left); });
}

}  // namespace

void mbarrier_init(uint32_t address, unsigned count) {
  const uint32_t pos = position(address, 8, "mbarrier.init", 8);
  if (!count || count >= 1 << 20) fail("mbarrier.init: the count is out of range");
  on_shared(pos, 8, Access::write);
  auto& b = current->shared.at<Mbarrier>(pos);
  b.phase = 0, b.count = b.pending = count, b.tx = 0, b.alive = 1;
}

void mbarrier_arrive(uint32_t address, unsigned expect_bytes) {
  Mbarrier& b = mbarrier(address, "mbarrier.arrive");
  add_tx(b, expect_bytes);
  if (!b.pending)
    fail(format("mbarrier.arrive: %s has all its %u arrivals already", place(position_of(b)).c_str(),
                unsigned(b.count)));
  current->mbarriers[position_of(b)].arrive(*running);
  b.pending--;
  finish_phase(b);
}

bool mbarrier_try_wait(uint32_t address, unsigned parity) {
  Mbarrier& b = mbarrier(address, "mbarrier.try_wait");
  while (b.phase == parity) {
    if (!current->launch->lazy() && current->roll() % 4 == 0) {  // it may give up at any time
      yield();
      if (b.phase == parity) return false;
      break;
    }
    wait(&b, [&] {
      return format("mbarrier %s, parity %u: %u of %u arrivals and %d bytes are missing",
                    place(position_of(b)).c_str(), parity, unsigned(b.pending), unsigned(b.count), int(b.tx));
    });
  }
  current->mbarriers[position_of(b)].leave(*running);
  return true;
}

void tma_load(uint32_t to, const TensorMap& map, int column, int row, uint32_t barrier, uint16_t cluster_mask) {
  constexpr const char* kName = "cp.async.bulk.tensor load";
  const std::string name = format("%s (%d,%d) to 0x%x by ", kName, column, row, to) + name_of(*running);
  const uint32_t own = box_position(map, to, kName), own_barrier = position(barrier, 8, kName, 8);
  for_box(map, column, row, own, [&](uint32_t, const char* from, unsigned bytes) {
    if (from) on_global(from, bytes, Access::read);
  });
  SharedMemory& memory = current->shared;
  for (unsigned rank = 0; rank < current->blocks.size(); rank++) {
    if (cluster_mask ? !(cluster_mask >> rank & 1) : rank != own / kArena) continue;
    const uint32_t pos = rank * kArena + own % kArena;
    launch_load(name, pos, box_bytes(map), cluster_mask ? rank * kArena + own_barrier % kArena : own_barrier, [=] {
      for_box(map, column, row, pos, [&](uint32_t at, const char* from, unsigned bytes) {
        if (from) memcpy(memory.bytes + at, from, bytes);
        else memset(memory.bytes + at, 0, bytes);
      });
    });
  }
}

void bulk_load(uint32_t to, const void* from, unsigned bytes, uint32_t barrier) {
  if (bytes % 16 || reinterpret_cast<uintptr_t>(from) % 16)
    fail("cp.async.bulk: size and source must be multiples of 16 bytes");
  const uint32_t pos = position(to, bytes, "cp.async.bulk", 16);
  const uint32_t barrier_pos = position(barrier, 8, "cp.async.bulk", 8);
  on_global(from, bytes, Access::read);
  char* const memory = current->shared.bytes;
  launch_load("cp.async.bulk by " + name_of(*running), pos, bytes, barrier_pos,
              [=] { memcpy(memory + pos, from, bytes); });
}

void tma_store(const TensorMap& map, int column, int row, uint32_t from) {
  constexpr const char* kName = "cp.async.bulk.tensor store";
  const std::string name = format("%s (%d,%d) from 0x%x by ", kName, column, row, from) + name_of(*running);
  const uint32_t pos = box_position(map, from, kName);
  for_box(map, column, row, pos, [&](uint32_t, char* to, unsigned bytes) {
    if (to) on_global(to, bytes, Access::write);
  });
  launch_store(name, pos, box_bytes(map), [=](const char* data) {
    for_box(map, column, row, pos, [&](uint32_t at, char* to, unsigned bytes) {
      if (to) memcpy(to, data + (at - pos), bytes);
    });
  });
}

void bulk_commit() { running->bulk_groups.push_back(running->bulk_issued); }

void bulk_wait_read(unsigned groups_left) {
  Thread& t = *running;
  // The groups stay open for a later wait for their writes.
  const size_t open = t.bulk_groups.size();
  const uint64_t target = open > groups_left ? t.bulk_groups[open - 1 - groups_left] : 0;
  t.bulk_waited = std::max(t.bulk_waited, target);
  wait_for_stores(t.bulk_read, target, "cp.async.bulk.wait_group.read", groups_left);
}

void bulk_wait(unsigned groups_left) {
  Thread& t = *running;
  const uint64_t target = close_groups(t.bulk_groups, groups_left);
  t.bulk_waited = std::max(t.bulk_waited, target);
  wait_for_stores(t.bulk_read, target, "cp.async.bulk.wait_group", groups_left);
  wait_for_stores(t.bulk_done, target, "cp.async.bulk.wait_group", groups_left);
}

void fence_proxy_async() {
  Thread& t = *running;
  t.proxy_fence = t.time;
  next_time(t);
}

}  // namespace simt
