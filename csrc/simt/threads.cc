// Threads that wait for each other: block barriers, warp collectives, clusters; and for other launches.
#include <cstring>

#include "simt/machine.h"

namespace simt {
namespace {

Barrier& arrive(unsigned id, unsigned threads, const char* name) {
  if (id >= 16 || threads % 32 || !threads)
    fail(format("%s %u, %u: not a barrier, or not whole warps", name, id, threads));
  Barrier& b = here().barriers[id];
  if (b.arrived && b.expected != threads)
    fail(format("%s %u, %u: others are there who expect %u threads", name, id, threads, b.expected));
  b.expected = threads;
  b.meeting.arrive(*running);
  if (++b.arrived == threads) {
    b.meeting.complete();
    b.arrived = 0, b.phase++, b.file = nullptr;
    wake(&b);
  }
  return b;
}

}  // namespace

unsigned lane_id() { return running->id % 32; }

void bar_arrive(unsigned id, unsigned threads) { arrive(id, threads, "bar.arrive"); }

void bar_sync(unsigned id, unsigned threads) {
  const unsigned phase = here().barriers[id % 16].phase;
  Barrier& b = arrive(id, threads, "bar.sync");
  while (b.phase == phase)
    wait(&b, [&] { return format("bar.sync %u, where %u of %u threads are", id, b.arrived, b.expected); });
  b.meeting.leave(*running);
}

int sync_threads(Vote vote, int predicate, const char* file, int line) {
  Block& block = here();
  Barrier& b = block.barriers[0];
  if (b.arrived && b.file && (b.line != unsigned(line) || strcmp(b.file, file)))
    fail(format("comes to __syncthreads at %s:%d while others wait at %s:%u (barrier divergence)", file, line,
                b.file, b.line));
  if (block.exited)
    fail(format("comes to __syncthreads at %s:%d, but %u threads have returned (barrier divergence)", file, line,
                block.exited));
  const unsigned phase = b.phase;
  if (!b.arrived) b.votes = 0;
  b.votes += predicate != 0;
  b.file = file, b.line = line;
  // A block that is not whole warps: the missing lanes count as there.
  const unsigned threads = (block.threads + 31) / 32 * 32;
  if (b.arrived == 0) b.arrived = threads - block.threads, b.expected = threads;
  if (b.arrived + 1 == threads) b.result = b.votes;  // the next round may begin before all have left this one
  arrive(0, threads, "__syncthreads");
  while (b.phase == phase)
    wait(&b, [&] {
      return format("__syncthreads at %s:%d, where %u of %u threads are", file, line, b.arrived, b.expected);
    });
  b.meeting.leave(*running);
  switch (vote) {
    case Vote::any: return b.result != 0;
    case Vote::all: return b.result == block.threads;
    default: return b.result;
  }
}

void collective(unsigned mask, const char* name, void* mine, FunctionRef<void(Lanes&)> all) {
  Warp& w = here().warps[running->id / 32];
  const unsigned bit = 1u << lane_id();
  mask &= w.lanes;
  if (!(mask & bit)) fail(format("%s with mask 0x%08x, which leaves out the calling lane", name, mask));
  Collective* c = nullptr;
  for (Collective& open : w.open)
    if (open.mask & mask) c = &open;
  if (c && (c->mask != mask || strcmp(c->name, name)))
    fail(format("%s with mask 0x%08x while lanes 0x%08x of its warp are in %s with mask 0x%08x", name, mask,
                c->arrived, c->name, c->mask));
  if (!c) c = &w.open.emplace_back(Collective{name, mask, 0, {}});
  c->lanes[lane_id()] = mine;
  if ((c->arrived |= bit) == mask) {
    Collective complete = *c;
    w.open.erase(w.open.begin() + (c - w.open.data()));
    all(complete.lanes);
    w.parked &= ~mask;
    return wake(&w);
  }
  w.parked |= bit;
  while (w.parked & bit) {
    wait(&w, [&] {
      unsigned arrived = 0;
      for (const Collective& open : w.open)
        if (open.mask & bit) arrived = open.arrived;
      return format("lanes 0x%08x of its warp in %s", mask & ~arrived, name);
    });
  }
}

// The only warp collective that orders memory: shuffles and votes exchange their values and no more.
void sync_warp(unsigned mask) {
  collective(mask, "__syncwarp", running, [](Lanes& lanes) {
    Meeting meeting;
    for (void* t : lanes)
      if (t) meeting.arrive(*static_cast<Thread*>(t));
    meeting.complete();
    for (void* t : lanes)
      if (t) meeting.leave(*static_cast<Thread*>(t));
  });
}

void aligned(const char* name) {
  if (here().warps[running->id / 32].lanes != ~0u) fail(std::string(name) + " in a warp that is not whole");
  collective(~0u, name, nullptr, [](Lanes&) {});
}

bool elect_sync(unsigned mask) {
  // The device elects the same lane every time for the same mask, but does not say which.
  unsigned lanes = mask & here().warps[running->id / 32].lanes;
  unsigned nth = (mask ^ current->launch->seed) % __builtin_popcount(lanes);
  collective(mask, "elect.sync", &lanes, [](Lanes&) {});
  while (nth--) lanes &= lanes - 1;
  return unsigned(__builtin_ctz(lanes)) == lane_id();
}

// ---- Launches that overlap

void grid_wait() { running->waited = here().waited = true; }

void grid_launch_dependents() {
  if (!running->waited)
    fail("griddepcontrol.launch_dependents before griddepcontrol.wait: "
         "launches after the next one may run beside the one before");
}

// ---- Clusters

unsigned cluster_rank() { return here().rank; }

uint32_t mapa(uint32_t address, unsigned rank) {
  if (rank >= current->blocks.size())
    fail(format("mapa: there is no block %u in a cluster of %zu", rank, current->blocks.size()));
  return kClusterFlag | (rank * kArena + address % kArena);
}

void cluster_arrive() {
  aligned("barrier.cluster.arrive");
  Cluster& c = *current;
  running->cluster_phase = c.phase;
  c.meeting.arrive(*running);
  if (++c.arrived < c.threads.size()) return;
  c.meeting.complete();
  c.arrived = 0, c.phase++;
  wake(&c.phase);
}

void cluster_wait() {
  aligned("barrier.cluster.wait");
  Cluster& c = *current;
  while (c.phase == running->cluster_phase)
    wait(&c.phase, [&] {
      return format("barrier.cluster, where %u of %zu threads are", c.arrived, c.threads.size());
    });
  c.meeting.leave(*running);
}

}  // namespace simt
