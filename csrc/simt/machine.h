// What the parts of the emulator share: threads, blocks, clusters, a launch, and who knows of whom.
//
// A cluster runs on one host thread, so its state needs no locks; what clusters share is in Launch and in the shadow of
// global memory. `running` is the CUDA thread that this host thread is in, null in the scheduler.
#pragma once

#include <array>
#include <atomic>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "simt/fiber.h"
#include "simt/simt.h"

namespace simt {

inline constexpr uint32_t kArena = 256 << 10;       // a block's shared address space: 18 bits, as in descriptors
inline constexpr uint32_t kFirst = 1 << 10;         // the device keeps the first KB for itself
inline constexpr uint32_t kLimit = 227 << 10;       // what one block may ask for
inline constexpr uint32_t kClusterFlag = 1u << 31;  // in addresses made by mapa: flag | rank * kArena | offset
inline constexpr unsigned kMaxCluster = 8;

std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));

struct Block;
struct Cluster;
struct Thread;

// ---- Order of accesses: vector clocks (clocks.cc)

// Times of a cluster's threads: what each had done when it last told.
using Times = std::vector<uint32_t>;
// Of several clusters, by their index in the grid.
using Others = std::map<uint32_t, std::shared_ptr<const Times>>;
using View = std::shared_ptr<const Others>;
// What a thread knows to have happened: of its own cluster, and of others it met through global memory.
struct Knowledge {
  Times times;
  View others;
};
using Clock = std::shared_ptr<const Knowledge>;

// A barrier of any kind, as a hand-over of clocks; of use only with access hooks.
class Meeting {
 public:
  void arrive(Thread&);
  void complete();
  void leave(Thread&);

 private:
  std::vector<Clock> clocks_;  // different ones, of those who have arrived
  std::vector<std::pair<unsigned, uint32_t>> own_;  // and their numbers and times
  Clock finished_, from_, to_;  // from_ joined with finished_ is to_
};

void next_time(Thread&);           // what it does from now on is not yet told
View view_of(Thread&);             // of all that the thread knows, and has done: its time moves on
void learn(Thread&, const View&);
View join(const View&, const View&);

// ---- Threads

struct Accumulator {  // the 64 x n result of a chain of wgmmas, while the hardware owns it
  int n;
  std::vector<float> value;
  float* registers[128] = {};
};

struct AsyncCopy {  // a cp.async that its thread has not waited for
  uint32_t pos;
  unsigned bytes;
  const void* from;  // null: zeros
  bool landed;
};

using Explain = FunctionRef<std::string()>;

struct Thread {
  Fiber fiber;
  Cluster* cluster;
  Block* block;
  unsigned id, number;  // within the block, within the cluster
  uint3 index;
  bool done = false;
  bool waited = false;  // griddepcontrol.wait
  const void* waiting_on = nullptr;
  const Explain* why = nullptr;  // lives on this thread's own stack, which stands still while it waits

  unsigned polls = 0;            // of memory that others may change
  const void* polled = nullptr;  // where, if it spins

  struct Lent {
    std::shared_ptr<Accumulator> accumulator;
    uint64_t last_use;
  };
  std::vector<Lent> lent;  // accumulators this thread must not touch
  uint64_t wgmma_issued = 0;
  std::vector<uint64_t> wgmma_groups;  // wgmma_issued at each commit still open
  bool wgmma_fenced = false;

  uint64_t bulk_issued = 0, bulk_read = 0, bulk_done = 0, bulk_waited = 0;
  std::vector<uint64_t> bulk_groups;
  std::vector<AsyncCopy> copies;     // cp.async, oldest first
  std::vector<size_t> copy_groups;   // how many of them each group has
  size_t copies_open = 0;            // and how many no group has yet
  uint32_t cluster_phase = 0;

  uint32_t time = 1, proxy_fence = 0;  // proxy_fence: the time of the last fence.proxy.async
  uint64_t global_cell = 0;            // who and when, as the shadow of global memory keeps it
  Clock clock;
  View released, seen;  // at the last fence; through atomics since the last fence
  std::vector<const void*> watched;  // volatile reads since then
};

struct Barrier {
  Meeting meeting;
  unsigned arrived = 0, expected = 0, phase = 0, line = 0, votes = 0, result = 0;
  const char* file = nullptr;
};
struct Collective {
  const char* name;
  unsigned mask, arrived;
  Lanes lanes;
};
struct Warp {
  unsigned lanes = 0, parked = 0;
  std::vector<Collective> open;
};
struct WgmmaOp {
  Wgmma what;
  std::shared_ptr<Accumulator> accumulator;
  std::vector<uint32_t> a_registers;             // 4 per thread, when A comes from registers,
  std::vector<const uint32_t*> a_places;         // and where they came from
  unsigned issued = 0;                           // by how many of the 128 threads
};
struct Warpgroup {
  std::vector<WgmmaOp> ops;  // all of the block's life; position = number of earlier ones
  uint64_t completed = 0;
};

struct Block {
  uint3 index;
  unsigned rank, threads, exited = 0;
  bool waited = false;  // one of its threads, griddepcontrol.wait
  uint32_t next_free;
  Barrier barriers[16];
  std::vector<Warp> warps;
  std::vector<Warpgroup> warpgroups;
  std::vector<std::pair<uint32_t, uint32_t>> regions;  // what may be touched
  std::vector<std::pair<const void*, uint32_t>> statics;
};

// ---- What the hardware does on its own (operations.cc)

struct Range {
  uint32_t pos, bytes;  // multiples of 4
};

// Until it completes, the shared memory it reads or writes is off limits for others. Who waits on `key`, waits for it.
struct Operation {
  std::string name;
  const void* key;
  bool in_order, writes;
  std::vector<Range> ranges;
  std::function<bool()> ready;
  std::function<void()> complete;
};

void launch_operation(Operation);
// Completes one operation in flight, chosen at random; when `awaited`, among those a thread waits for.
bool complete_one(Cluster&, bool awaited);
// Who reads or writes this word of shared memory in flight.
[[noreturn]] void report_in_flight(const char* verb, uint32_t pos, bool writers_only);
// How many operations must be complete when at most `left` groups may be open; closes the others.
uint64_t close_groups(std::vector<uint64_t>& groups, unsigned left);

// ---- Shared memory and its shadow (memory.cc, races.cc)

struct Lock {  // operations in flight on a word of 4 bytes
  uint16_t readers = 0, writers = 0;
};

struct SharedMemory {
  SharedMemory();
  char* bytes;
  uint32_t *writers, *readers;  // of each byte, who last and when: a cell of races.cc
  Lock* locks;
  template <class T>
  T& at(uint32_t pos) { return *reinterpret_cast<T*>(bytes + pos); }
};

void claim_shared(Cluster&, Block&, uint32_t offset, uint32_t bytes);
void forget_shared(Cluster&);
// An address to a position in the cluster's memory; reports what lies outside the block's allocations.
uint32_t position(uint32_t address, uint32_t bytes, const char* what, uint32_t alignment = 1);
std::string place(uint32_t pos);  // "smem+0x40"

enum class Access { read, write, atomic_read, atomic_write, atomic_update };
void on_shared(uint32_t pos, uint32_t bytes, Access);      // an access by the running thread
void on_global(const void* p, size_t bytes, Access);
void check_async(const Operation&);                        // an operation about to be put in flight
void stamp_shared(uint32_t pos, uint32_t bytes);           // written by the running thread
void stamp_async(uint32_t pos, uint32_t bytes);            // by the hardware
void begin_stamps(Thread&);

// The number of a launch, different from those of all launches that the shadow of global memory remembers.
class LaunchNumber {
 public:
  LaunchNumber();
  ~LaunchNumber();
  operator uint32_t() const { return number_; }

 private:
  uint32_t number_;
};

// ---- Running

// The threads of a warp that can run. Always running the warp of highest priority lets one warp get as
// far ahead of the others as the barriers allow; a fair choice would keep them abreast and find little.
struct Queue {
  uint64_t priority;
  std::vector<Thread*> threads;
};

struct Launch {
  Launch(const LaunchShape& s, const void* k, const std::function<void()>& b, uint64_t seed_now)
      : shape(s), kernel(k), body(b), seed(seed_now) {}

  const LaunchShape& shape;
  const void* kernel;
  const std::function<void()>& body;
  const uint64_t seed;
  uint32_t number = 0, before = 0;  // for the shadow of global memory: its own, and that of the launch before
  std::atomic<uint64_t> next{0}, progress{0};
  uint64_t clusters = 0;
  std::atomic<bool> stop{false};
  std::mutex mutex;  // of what follows
  std::string error;
  std::vector<std::atomic<uint64_t>*> stalled;  // of each host thread: the progress at which it could not go on

  bool lazy() const { return seed % 2 == 0; }
};

struct Cluster {
  Launch* launch;
  uint32_t index;  // in the grid
  Fiber scheduler;
  SharedMemory shared;
  std::vector<char*> stacks;
  std::vector<Thread> threads;  // block by block
  std::vector<Block> blocks;
  std::vector<Queue> queues;    // one per warp
  std::list<Operation> in_flight;
  std::map<uint32_t, Meeting> mbarriers;
  unsigned arrived = 0;  // at the cluster's barrier
  uint32_t phase = 0;
  Meeting meeting;
  size_t alive = 0, spins = 0;  // spins: threads that ran and only polled, since something changed
  uint64_t seen = 0;            // the launch's progress then
  uint64_t random = 1;

  uint64_t roll() { return random ^= random << 13, random ^= random >> 7, random ^= random << 17; }  // xorshift
};

extern __thread __attribute__((tls_model("initial-exec"))) Thread* running;
extern __thread __attribute__((tls_model("initial-exec"))) Cluster* current;
extern bool tracking;  // access hooks are compiled in

inline Block& here() { return *running->block; }

void set_up(Cluster&, Launch&, uint64_t index);
enum class Slice { finished, stalled, interrupted };
// Lets the cluster run until it ends or cannot go on without others; with odd seeds now and then only for a while.
Slice run_slice(Cluster&, bool has_neighbours);
std::string stories(Cluster&);  // what each thread waits for, and what is in flight

std::string name_of(const Thread&);
void wait(const void* key, Explain why);  // until someone calls wake(key); being woken promises nothing: loop
void wake(const void* key);
void poll(const void* p);  // the running thread looks at memory that others may change
void moved(Cluster&);      // something happened that a spinning thread may wait for

}  // namespace simt
