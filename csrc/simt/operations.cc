// What the hardware does on its own: in flight until it completes, as late as the waits allow or at random.
//
// While an operation is in flight its shared memory is locked, word by word: whoever touches it in conflict is
// reported, with both parties named. What it will write is NaN from the moment of issue.
#include <algorithm>
#include <cstring>
#include <utility>

#include "simt/machine.h"

namespace simt {
namespace {

void claim(Cluster& c, const Operation& op, int by) {
  for (const Range& r : op.ranges)
    for (uint32_t w = r.pos / 4; w < (r.pos + r.bytes) / 4; w++)
      (op.writes ? c.shared.locks[w].writers : c.shared.locks[w].readers) += by;
}

// Reports what another operation in flight does to the range.
void check_locks(const Operation& op, const Range& r) {
  for (uint32_t w = r.pos / 4; w < (r.pos + r.bytes) / 4; w++) {
    const Lock& lock = current->shared.locks[w];
    if (lock.writers || (op.writes && lock.readers))
      report_in_flight((op.name + (op.writes ? " overwrites" : " reads")).c_str(), w * 4, !op.writes);
  }
}

bool awaited(const Cluster& c, const Operation& op) {
  return std::any_of(c.threads.begin(), c.threads.end(), [&](const Thread& t) { return t.waiting_on == op.key; });
}

}  // namespace

void report_in_flight(const char* verb, uint32_t pos, bool writers_only) {
  const auto covers = [&](uint32_t from, uint32_t bytes) { return pos + 4 > from && pos < from + bytes; };
  std::string what = std::string(verb) + " " + place(pos);
  for (const Operation& op : current->in_flight)
    for (const Range& r : op.ranges)
      if ((op.writes || !writers_only) && covers(r.pos, r.bytes))
        fail(what + ", which is still being " + (op.writes ? "written" : "read") + " by " + op.name);
  for (const Thread& t : current->threads)
    for (const AsyncCopy& copy : t.copies)
      if (covers(copy.pos, copy.bytes)) fail(what + ", which is still being written by cp.async of " + name_of(t));
  fail(what + ", which something in flight uses");
}

void launch_operation(Operation op) {
  Cluster& c = *current;
  for (const Range& r : op.ranges) check_locks(op, r);
  check_async(op);
  for (const Range& r : op.ranges) {
    if (!op.writes) continue;
    stamp_async(r.pos, r.bytes);
    memset(c.shared.bytes + r.pos, 0xff, r.bytes);  // from now on its contents are anybody's guess
  }
  claim(c, op, +1);
  c.in_flight.push_back(std::move(op));
}

bool complete_one(Cluster& c, bool only_awaited) {
  if (c.in_flight.empty()) return false;
  std::vector<std::list<Operation>::iterator> candidates;
  std::vector<const void*> passed;
  for (auto op = c.in_flight.begin(); op != c.in_flight.end(); ++op) {
    if (op->in_order) {
      if (std::find(passed.begin(), passed.end(), op->key) != passed.end()) continue;
      passed.push_back(op->key);
    }
    if (op->ready && !op->ready()) continue;
    if (only_awaited && !awaited(c, *op)) continue;
    candidates.push_back(op);
  }
  if (candidates.empty()) return false;
  const auto chosen = candidates[c.roll() % candidates.size()];
  claim(c, *chosen, -1);
  chosen->complete();
  wake(chosen->key);
  c.in_flight.erase(chosen);
  return true;
}

uint64_t close_groups(std::vector<uint64_t>& groups, unsigned left) {
  if (groups.size() <= left) return 0;
  const uint64_t target = groups[groups.size() - 1 - left];
  groups.erase(groups.begin(), groups.end() - left);
  return target;
}

// ---- cp.async: each thread waits for its own, so they need no scheduler

namespace {

void land(Cluster& c, AsyncCopy& copy) {
  if (std::exchange(copy.landed, true)) return;
  if (copy.from) memcpy(c.shared.bytes + copy.pos, copy.from, copy.bytes);
  else memset(c.shared.bytes + copy.pos, 0, copy.bytes);
}

// The oldest `count` copies are waited for: they are as if this thread had written now.
void finish_copies(size_t count) {
  Thread& t = *running;
  Cluster& c = *t.cluster;
  for (size_t i = 0; i < count; i++) {
    AsyncCopy& copy = t.copies[i];
    land(c, copy);
    for (uint32_t w = copy.pos / 4; w < (copy.pos + copy.bytes) / 4; w++) c.shared.locks[w].writers--;
    stamp_shared(copy.pos, copy.bytes);
  }
  t.copies.erase(t.copies.begin(), t.copies.begin() + count);
}

}  // namespace

void cp_async(uint32_t to, const void* from, unsigned bytes, bool valid) {
  Thread& t = *running;
  Cluster& c = *t.cluster;
  const uint32_t pos = position(to, bytes, "cp.async", bytes);
  if (valid && reinterpret_cast<uintptr_t>(from) % bytes)
    fail(format("cp.async of %u bytes from %p, expected a multiple of them", bytes, from));
  if (valid) on_global(from, bytes, Access::read);
  on_shared(pos, bytes, Access::write);
  for (uint32_t w = pos / 4; w < (pos + bytes) / 4; w++) {
    Lock& lock = c.shared.locks[w];
    if (lock.readers || lock.writers) report_in_flight("cp.async overwrites", w * 4, false);
    lock.writers++;
  }
  stamp_async(pos, bytes);
  memset(c.shared.bytes + pos, 0xff, bytes);
  t.copies.push_back({pos, bytes, valid ? from : nullptr, false});
  t.copies_open++;
  if (!c.launch->lazy() && c.roll() % 2) land(c, t.copies[c.roll() % t.copies.size()]);
}

void cp_async_commit() { running->copy_groups.push_back(std::exchange(running->copies_open, 0)); }

void cp_async_wait(unsigned groups_left) {
  Thread& t = *running;
  size_t count = 0;
  while (t.copy_groups.size() > groups_left) {
    count += t.copy_groups.front();
    t.copy_groups.erase(t.copy_groups.begin());
  }
  finish_copies(count);
}

void cp_async_wait_all() {
  cp_async_commit();
  cp_async_wait(0);
}

}  // namespace simt
