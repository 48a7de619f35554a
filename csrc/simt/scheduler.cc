// Who runs next within a cluster: fibers of highest priority first, and what to say when none can go on.
#include <algorithm>
#include <utility>

#include "simt/machine.h"
#include "simt/report.h"

// The built-in variables, which are constant only as kernels see them.
#define SIMT_VARIABLE(name) __thread __attribute__((tls_model("initial-exec"))) uint3 simt_##name asm(#name)
SIMT_VARIABLE(threadIdx);
SIMT_VARIABLE(blockIdx);
SIMT_VARIABLE(blockDim);
SIMT_VARIABLE(gridDim);

namespace simt {

__thread Thread* running;
__thread Cluster* current;

namespace {

constexpr unsigned kPolls = 4;  // looks at memory before others get a turn

void make_ready(Thread& t) {
  t.waiting_on = nullptr;
  t.cluster->queues[t.number / 32].threads.push_back(&t);
}

void fiber_main() {
  begin(current->scheduler);
  Thread& t = *running;
  t.cluster->launch->body();
  const Barrier& b = t.block->barriers[0];
  const Warp& warp = t.block->warps[t.id / 32];
  if (!t.lent.empty()) fail("returns while accumulators are in flight: there is no wgmma.wait_group for them");
  if (t.bulk_waited < t.bulk_issued)
    fail("returns without cp.async.bulk.wait_group for its stores: their shared memory may be reused");
  if (!t.copies.empty()) fail("returns while its cp.async are in flight: there is no cp.async.wait_group for them");
  if (b.arrived && b.file)
    fail(format("returns while %u threads wait at __syncthreads, %s:%u (barrier divergence)", b.arrived, b.file,
                b.line));
  for (const Collective& c : warp.open)
    if (c.mask >> t.id % 32 & 1)
      fail(format("returns while lanes 0x%08x of its warp wait for it in %s", c.arrived, c.name));
  t.block->exited++;
  if (t.block->exited == t.block->threads && t.cluster->launch->shape.early && !t.block->waited)
    fail("the block exits without griddepcontrol.wait: launches after it need not wait for those before it");
  t.done = true;
  moved(*t.cluster);
  switch_to(t.fiber, t.cluster->scheduler);
}

Thread* pick_thread(Cluster& c) {
  Queue* best = nullptr;
  for (Queue& q : c.queues)
    if (!q.threads.empty() && (!best || q.priority > best->priority)) best = &q;
  if (!best) return nullptr;
  if (c.roll() % 256 == 0) best->priority = c.roll() | 1ull << 32;
  const size_t i = c.roll() % best->threads.size();
  Thread* t = std::exchange(best->threads[i], best->threads.back());
  best->threads.pop_back();
  return t;
}

void resume(Cluster& c, Thread& t) {
  running = &t;
  simt_threadIdx = t.index;
  simt_blockIdx = t.block->index;
  switch_to(c.scheduler, t.fiber);
  running = nullptr;
}

size_t ready_threads(const Cluster& c) {
  size_t n = 0;
  for (const Queue& q : c.queues) n += q.threads.size();
  return n;
}

// "0-31,64" of {0, ..., 31, 64}
std::string ranges(const std::vector<unsigned>& ids) {
  std::string text;
  for (size_t i = 0, j; i < ids.size(); i = j + 1) {
    for (j = i; j + 1 < ids.size() && ids[j + 1] == ids[j] + 1;) j++;
    text += (i ? "," : "") + std::to_string(ids[i]) + (j > i ? "-" + std::to_string(ids[j]) : "");
  }
  return text;
}

}  // namespace

void set_up(Cluster& c, Launch& launch, uint64_t index) {
  const LaunchShape& shape = launch.shape;
  simt_blockDim = {shape.block.x, shape.block.y, shape.block.z};
  simt_gridDim = {shape.grid.x, shape.grid.y, shape.grid.z};
  const unsigned per_block = shape.block.x * shape.block.y * shape.block.z, count = per_block * shape.cluster;
  const uint64_t across = shape.grid.x / shape.cluster;
  const uint3 first = {static_cast<unsigned>(index % across) * shape.cluster,
                       static_cast<unsigned>(index / across % shape.grid.y),
                       static_cast<unsigned>(index / across / shape.grid.y)};
  forget_shared(c);
  c.launch = &launch;
  c.index = index;
  c.random = (launch.seed * 1000003 + index + 1) * 0x9e3779b97f4a7c15 | 1;
  while (c.stacks.size() < count) c.stacks.push_back(new_stack());
  c.in_flight.clear();
  c.mbarriers.clear();
  c.meeting = {};
  c.arrived = c.phase = 0;
  c.blocks.assign(shape.cluster, Block{});
  c.threads.assign(count, Thread{});
  c.queues.assign((count + 31) / 32, Queue{});
  c.alive = count;
  c.spins = 0;
  for (Queue& q : c.queues) q.priority = c.roll() | 1ull << 32;
  Clock nothing;
  if (tracking) nothing = std::make_shared<Knowledge>(Knowledge{Times(count), nullptr});
  for (unsigned rank = 0; rank < shape.cluster; rank++) {
    Block& b = c.blocks[rank];
    b.index = {first.x + rank, first.y, first.z};
    b.rank = rank;
    b.threads = per_block;
    b.warps.resize((per_block + 31) / 32);
    b.warpgroups.resize((per_block + 127) / 128);
    b.next_free = kFirst;
    if (shape.dynamic_smem) claim_shared(c, b, kFirst, shape.dynamic_smem);
    for (unsigned id = 0; id < per_block; id++) {
      const unsigned number = rank * per_block + id;
      Thread& t = c.threads[number];
      t.cluster = &c;
      t.block = &b;
      t.id = id;
      t.number = number;
      t.clock = nothing;
      t.index = {id % shape.block.x, id / shape.block.x % shape.block.y, id / (shape.block.x * shape.block.y)};
      b.warps[id / 32].lanes |= 1u << id % 32;
      if (tracking) begin_stamps(t);
      start(t.fiber, c.stacks[number], number, fiber_main);
      make_ready(t);
    }
  }
}

std::string stories(Cluster& c) {
  std::map<std::pair<unsigned, std::string>, std::vector<unsigned>> told;
  std::map<std::string, int> operations;
  for (Thread& t : c.threads) {
    if (t.done) continue;
    const std::string story = t.waiting_on ? (*t.why)() : "a change of global memory at " + place_in_global(t.polled);
    told[{t.block->rank, story}].push_back(t.id);
  }
  for (const Operation& op : c.in_flight) operations[op.name]++;
  std::string text;
  for (auto& [story, ids] : told) {
    const uint3 b = c.blocks[story.first].index;
    text += format("\n    block (%u,%u,%u), threads ", b.x, b.y, b.z) + ranges(ids) + " wait for " + story.second;
  }
  for (auto& [name, count] : operations) text += format("\n    in flight: %d x ", count) + name;
  return text;
}

Slice run_slice(Cluster& c, bool has_neighbours) {
  Launch& launch = *c.launch;
  current = &c;
  while (c.alive) {
    if (launch.stop.load(std::memory_order_relaxed)) return Slice::interrupted;
    if (!launch.lazy()) {
      if (c.roll() % 4 == 0) complete_one(c, false);
      if (has_neighbours && c.roll() % 64 == 0) return Slice::interrupted;
    }
    const uint64_t progress = launch.progress.load(std::memory_order_relaxed);
    if (c.seen != progress) c.seen = progress, c.spins = 0;
    if (c.spins && c.spins > 4 * ready_threads(c)) {
      if (complete_one(c, false)) continue;
      c.spins = 0;
      return Slice::stalled;
    }
    Thread* t = pick_thread(c);
    if (!t) {
      if (!complete_one(c, true)) fail("deadlock: no thread can run" + stories(c));
      continue;
    }
    resume(c, *t);
    if (t->done) c.alive--;
  }
  // What has left shared memory may still be on its way.
  for (const Operation& op : c.in_flight)
    if (!op.ranges.empty()) fail("the block exits, but nobody waited for " + op.name);
  while (complete_one(c, false)) {}
  return Slice::finished;
}

void moved(Cluster& c) { c.launch->progress.fetch_add(1, std::memory_order_relaxed); }

void wait(const void* key, Explain why) {
  Thread& t = *running;
  t.waiting_on = key;
  t.why = &why;
  switch_to(t.fiber, t.cluster->scheduler);
}

void wake(const void* key) {
  for (Thread& t : current->threads)
    if (t.waiting_on == key) make_ready(t);
  moved(*current);
}

void yield() {
  Thread& t = *running;
  Cluster& c = *t.cluster;
  make_ready(t);
  c.queues[t.number / 32].priority = c.roll() >> 32;  // below all others
  c.spins++;
  switch_to(t.fiber, c.scheduler);
}

void poll(const void* p) {
  running->polled = p;
  if (++running->polls % kPolls == 0) yield();
}

}  // namespace simt
