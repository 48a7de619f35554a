// Watching accesses: the compiler's hooks, and reports of what no order allows.
//
// With -fsanitize=thread the compiler calls a function before every load and store of a kernel. We do not link that
// sanitizer's run-time library; we are it. Two accesses of which one writes are reported when no barrier, fence or
// atomic orders them, whether or not this schedule made them go wrong.
#include <link.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "simt/machine.h"
#include "simt/report.h"
#include "simt/shadow.h"

namespace simt {

bool tracking = false;  // constant-initialised: __tsan_init runs before this library's constructors
bool tracks_accesses() { return tracking; }

namespace {

bool reads(Access a) { return a != Access::write && a != Access::atomic_write; }
bool writes(Access a) { return a != Access::read && a != Access::atomic_read; }
bool is_atomic(Access a) { return a != Access::read && a != Access::write; }
const char* verb(Access a) {
  constexpr const char* kVerbs[] = {"reads", "writes", "reads (volatile or atomic)", "writes (volatile or atomic)",
                                    "updates"};
  return kVerbs[static_cast<int>(a)];
}

// ---- Shared memory

uint32_t cell_of(const Thread& t) { return t.number << 19 | t.time; }

// Reports an access to `pos` unless what another thread did there, `cell`, happened before.
void check_shared(const char* what, uint32_t pos, uint32_t cell, bool atomic, const char* done) {
  const Thread& t = *running;
  const uint32_t who = cell >> 19, time = cell & kTime;
  if (!time || who == t.number || t.clock->times[who] >= time || (atomic && cell & kAtomic)) return;
  fail(format("%s %s, which thread %u %s, with no barrier between the two", what, place(pos).c_str(),
              t.cluster->threads[who].id, done));
}

// ---- Global memory

void report_global(const char* what, const void* p, uint64_t cell, const char* done) {
  const Launch& launch = *running->cluster->launch;
  const uint64_t cluster = cell >> kClusterShift & 0xfffff, number = cell >> kThreadShift & 0x1fff;
  const unsigned per_block = launch.shape.block.x * launch.shape.block.y * launch.shape.block.z;
  const uint64_t block = cluster * launch.shape.cluster + number / per_block;
  const uint3 mine = running->block->index;
  const dim3 grid = launch.shape.grid;
  const bool same = block == mine.x + uint64_t{grid.x} * (mine.y + uint64_t{grid.y} * mine.z);
  const std::string other = same ? "" : format(" of block %lu of the grid", static_cast<unsigned long>(block));
  fail(format("%s %s, which thread %lu%s %s, with nothing that orders the two", what, place_in_global(p).c_str(),
              static_cast<unsigned long>(number % per_block), other.c_str(), done));
}

bool ordered(const Thread& t, uint64_t cell) {
  const uint32_t cluster = cell >> kClusterShift & 0xfffff, number = cell >> kThreadShift & 0x1fff;
  const uint32_t time = cell >> kTimeShift & 0x7fff;
  if (cluster == t.cluster->index) return t.clock->times[number] >= time;
  if (!t.clock->others) return false;
  const auto known = t.clock->others->find(cluster);
  return known != t.clock->others->end() && (*known->second)[number] >= time;
}

// An access of these bytes of a granule (0: atomic) against what another thread did there in this launch.
void check_global(const Thread& t, const char* p, uint64_t cell, uint64_t mask, Access access, const char* done) {
  if ((cell ^ t.global_cell) >> kThreadShift == 0 || (cell ^ t.global_cell) >> kLaunchShift != 0) return;
  const uint64_t theirs = cell & 0xf;
  if (theirs && mask ? !(theirs & mask) : !theirs && !mask) return;
  if (!ordered(t, cell)) report_global(verb(access), p, cell, done);
}

// Before griddepcontrol.wait the launch before may still run: only what is read ahead may be touched, and not even that
// where that launch writes it.
void check_early(const char* p, size_t bytes, Access access, uint64_t writer) {
  const Launch& launch = *running->cluster->launch;
  const char* const ahead = static_cast<const char*>(launch.shape.ahead);
  const char* const what = verb(access);
  if (writes(access) || p < ahead || p + bytes > ahead + launch.shape.ahead_bytes)
    fail(format("%s %s before griddepcontrol.wait", what, place_in_global(p).c_str()));
  if (launch.before && writer >> kLaunchShift == launch.before)
    fail(format("%s %s before griddepcontrol.wait, which the launch before writes", what, place_in_global(p).c_str()));
}

// Neither shared nor device memory: constants are fine, and what the launch passes; the host's memory is not.
void elsewhere(const char* p, Access access) {
  const char* const body = reinterpret_cast<const char*>(&running->cluster->launch->body);
  if (p >= body && p < body + sizeof(std::function<void()>)) return;
  struct Image {
    const char *p, *first, *last;
  };
  thread_local Image image{};
  if (p >= image.first && p < image.last) return;
  image.p = p;
  const auto holds = [](dl_phdr_info* info, size_t, void* wanted) {
    auto& image = *static_cast<Image*>(wanted);
    for (int i = 0; i < info->dlpi_phnum; i++) {
      const auto& segment = info->dlpi_phdr[i];
      const char* const first = reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr);
      if (segment.p_type != PT_LOAD || image.p < first || image.p >= first + segment.p_memsz) continue;
      image.first = first, image.last = first + segment.p_memsz;
      return 1;
    }
    return 0;
  };
  if (dl_iterate_phdr(holds, &image)) return;
  fail(format("%s %p, which is neither device nor shared memory", verb(access), static_cast<const void*>(p)));
}

inline bool on_stack(const Thread& t, const void* p) {
  return static_cast<uintptr_t>(static_cast<const char*>(p) - static_cast<const char*>(t.fiber.stack)) < kStackBytes;
}

inline void hook(const void* at, size_t bytes, Access access) {
  const Thread* const t = running;
  if (!t) return;
  const char* const p = static_cast<const char*>(at);
  const uintptr_t in_shared = p - current->shared.bytes, in_heap = p - heap;
  if (in_shared < size_t{kArena} * kMaxCluster) on_shared(in_shared, bytes, access);
  else if (in_heap < kHeapBytes) on_global(p, bytes, access);
  else if (!on_stack(*t, p)) elsewhere(p, access);
}

// Of a type that must be aligned, as all are whose hooks are not those of unaligned accesses; or, on the stack, of
// neighbours that g++ moves together.
inline void aligned_hook(const void* p, size_t bytes, Access access) {
  if (running && !on_stack(*running, p)) check_alignment(p, bytes);
  hook(p, bytes, access);
}

// ---- What atomics hand on

struct Handed {
  uint64_t launch = 0;  // and the cluster, for shared memory
  View view;
};
struct Stripe {
  std::mutex mutex;
  std::unordered_map<const void*, Handed> handed;
};
Stripe& stripe_of(const void* p) {
  static auto& stripes = *new std::array<Stripe, 64>;
  return stripes[reinterpret_cast<uintptr_t>(p) / 8 % stripes.size()];
}
uint64_t scope_of(const void* p) {
  const uintptr_t in_shared = static_cast<const char*>(p) - current->shared.bytes;
  const bool shared = in_shared < size_t{kArena} * kMaxCluster;
  return uint64_t{current->launch->number} << 32 | (shared ? current->index + 1 : 0);
}
// What was released at p. The stripe is locked.
View handed_on(Stripe& s, const void* p) {
  const auto found = s.handed.find(p);
  return found != s.handed.end() && found->second.launch == scope_of(p) ? found->second.view : nullptr;
}
void hand_on(Stripe& s, const void* p, const View& view) {
  if (view) s.handed[p] = {scope_of(p), join(handed_on(s, p), view)};
}

// Volatile accesses count as relaxed atomics. A hook comes before its access, so what a read met is learnt at the
// fence.
void volatile_hook(const void* p, size_t bytes, Access access) {
  if (!running) return;
  Thread& t = *running;
  hook(p, bytes, access);
  if (writes(access)) {
    Stripe& s = stripe_of(p);
    std::lock_guard lock(s.mutex);
    hand_on(s, p, t.released);
    moved(*t.cluster);
  } else {
    if (std::find(t.watched.begin(), t.watched.end(), p) == t.watched.end()) t.watched.push_back(p);
    poll(p);
  }
}

}  // namespace

void check_alignment(const void* p, size_t bytes) {
  if (!running || reinterpret_cast<uintptr_t>(p) % bytes == 0) return;
  fail(format("accesses %zu bytes at %p, expected a multiple of %zu", bytes, p, bytes));
}

void begin_stamps(Thread& t) {
  // More clusters than a cell can name: the others' accesses are not watched.
  const uint64_t launch = t.cluster->index < 1u << 20 ? t.cluster->launch->number : 0;
  t.global_cell = launch << kLaunchShift | uint64_t{t.cluster->index & 0xfffff} << kClusterShift |
                  uint64_t{t.number} << kThreadShift | uint64_t{t.time} << kTimeShift;
}

void on_shared(uint32_t pos, uint32_t bytes, Access access) {
  if (!tracking) return;
  const Thread& t = *running;
  SharedMemory& m = current->shared;
  const bool write = writes(access), atomic = is_atomic(access);
  for (uint32_t w = pos / 4; w <= (pos + bytes - 1) / 4; w++)
    if (m.locks[w].writers || (write && m.locks[w].readers)) report_in_flight(verb(access), w * 4, !write);
  uint32_t last = cell_of(t);
  for (uint32_t i = pos; i < pos + bytes; i++) {
    const uint32_t cell = m.writers[i];
    if (cell == last) continue;
    if (cell == kOutside) fail(format("%s %s, outside its shared arrays", verb(access), place(i).c_str()));
    if (cell == kNobody && reads(access)) fail("reads " + place(i) + ", which nobody has written");
    check_shared(verb(access), i, cell, atomic, "writes");
    last = cell;
  }
  const uint32_t mine = cell_of(t) | (atomic ? kAtomic : 0);
  if (!write) {
    std::fill_n(m.readers + pos, bytes, mine);
    return;
  }
  for (uint32_t i = pos; i < pos + bytes; i++) {
    if (m.readers[i] == last) continue;
    last = m.readers[i];
    check_shared(verb(access), i, last, atomic, "reads");
  }
  std::fill_n(m.writers + pos, bytes, mine);
}

void check_async(const Operation& op) {
  if (!tracking) return;
  const SharedMemory& m = current->shared;
  const auto says = [&] { return op.name + (op.writes ? " overwrites" : " reads"); };
  for (const Range& r : op.ranges) {
    uint32_t last = kAsync;
    for (uint32_t i = r.pos; i < r.pos + r.bytes; i++) {
      const uint32_t cell = m.writers[i], reader = m.readers[i], who = cell >> 19, time = cell & kTime;
      if (op.writes && reader & kTime) check_shared(says().c_str(), i, reader, false, "reads");
      if (cell == last) continue;
      last = cell;
      if (time) check_shared(says().c_str(), i, cell, false, "writes");
      if (op.writes) continue;
      if (cell == kNobody) fail(says() + " " + place(i) + ", which nobody has written");
      if (time && time > current->threads[who].proxy_fence)
        fail(format("%s %s, which thread %u wrote without fence.proxy.async afterwards", says().c_str(),
                    place(i).c_str(), current->threads[who].id));
    }
  }
}

void stamp_async(uint32_t pos, uint32_t bytes) {
  if (tracking) std::fill_n(current->shared.writers + pos, bytes, kAsync);
}
void stamp_shared(uint32_t pos, uint32_t bytes) {
  if (tracking) std::fill_n(current->shared.writers + pos, bytes, cell_of(*running));
}

void on_global(const void* at, size_t bytes, Access access) {
  if (!tracking) return;
  const Thread& t = *running;
  const bool write = writes(access), atomic = is_atomic(access);
  const char *p = static_cast<const char*>(at), *const end = p + bytes;
  if (static_cast<uintptr_t>(p - heap) >= kHeapBytes) return elsewhere(p, access);
  const bool early = !t.waited && t.cluster->launch->shape.early;
  while (p < end) {
    const unsigned first = (p - heap) % 4, n = std::min<size_t>(4 - first, end - p);
    const uint64_t mask = atomic ? 0 : ((1u << n) - 1) << first;
    Granule& g = granule_of(p);
    const uint64_t writer = __atomic_load_n(&g.writer, __ATOMIC_RELAXED);
    if (writer == kUnallocated)
      fail(std::string(verb(access)) + " global memory that is not allocated, or no longer: " + place_in_global(p));
    if (writer == kUnwritten && reads(access))
      fail("reads " + place_in_global(p) + ", which nobody has written");
    if (early) check_early(p, n, access, writer);
    check_global(t, p, writer, mask, access, "writes");
    if (write) {
      check_global(t, p, __atomic_load_n(&g.reader, __ATOMIC_RELAXED), mask, access, "reads");
      check_global(t, p, __atomic_load_n(&g.other_reader, __ATOMIC_RELAXED), mask, access, "reads");
      __atomic_store_n(&g.writer, t.global_cell | mask, __ATOMIC_RELAXED);
    } else {
      const uint64_t reader = __atomic_load_n(&g.reader, __ATOMIC_RELAXED);
      if ((reader ^ t.global_cell) >> kClusterShift) __atomic_store_n(&g.other_reader, reader, __ATOMIC_RELAXED);
      __atomic_store_n(&g.reader, t.global_cell | mask, __ATOMIC_RELAXED);
    }
    p += n;
  }
}

uint64_t atomic(void* p, size_t bytes, FunctionRef<uint64_t(uint64_t)> change, bool blind) {
  if (reinterpret_cast<uintptr_t>(p) % bytes) fail(format("an atomic on %p, expected a multiple of %zu", p, bytes));
  if (tracking) hook(p, bytes, blind ? Access::atomic_write : Access::atomic_update);
  Thread& t = *running;
  Stripe& s = stripe_of(p);
  uint64_t before = 0, after;
  {
    std::lock_guard lock(s.mutex);
    memcpy(&before, p, bytes);
    after = change(before);
    if (after != before) memcpy(p, &after, bytes);
    if (tracking) {
      t.seen = join(t.seen, handed_on(s, p));
      hand_on(s, p, t.released);
    }
  }
  if (after == before) poll(p);
  else moved(*t.cluster);
  return before;
}

namespace {

std::mutex tickets_mutex;
std::set<unsigned*> tickets;

}  // namespace

void remember_ticket(unsigned* ticket) {
  std::lock_guard lock(tickets_mutex);
  tickets.insert(ticket);
}

void clear_tickets() {
  std::lock_guard lock(tickets_mutex);
  for (unsigned* ticket : tickets) *ticket = 0;
  tickets.clear();
}

uint32_t load_acquire(const uint32_t* p) {
  if (tracking) hook(p, 4, Access::atomic_read);
  poll(p);
  Stripe& s = stripe_of(p);
  std::lock_guard lock(s.mutex);
  if (tracking) learn(*running, handed_on(s, p));
  return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

void store_release(uint32_t* p, uint32_t value) {
  if (tracking) hook(p, 4, Access::atomic_write);
  Stripe& s = stripe_of(p);
  std::lock_guard lock(s.mutex);
  if (tracking) hand_on(s, p, view_of(*running));
  __atomic_store_n(p, value, __ATOMIC_RELEASE);
  moved(*current);
}

void thread_fence() {
  if (!tracking) return;
  Thread& t = *running;
  for (const void* p : t.watched) {
    Stripe& s = stripe_of(p);
    std::lock_guard lock(s.mutex);
    t.seen = join(t.seen, handed_on(s, p));
  }
  t.watched.clear();
  learn(t, std::exchange(t.seen, nullptr));
  t.released = view_of(t);
}

}  // namespace simt

// The signatures are the sanitizer's.
extern "C" {
#define SIMT_HOOK(name, n, access) \
  void name(void*);          \
  void name(void* p) { simt::hook(p, n, simt::Access::access); }
#define SIMT_ALIGNED_HOOK(name, n, access) \
  void name(void*);                  \
  void name(void* p) { simt::aligned_hook(p, n, simt::Access::access); }
#define SIMT_VOLATILE_HOOK(name, n, access) \
  void name(void*);                   \
  void name(void* p) { simt::volatile_hook(p, n, simt::Access::access); }
#define SIMT_HOOKS(n)                                              \
  SIMT_ALIGNED_HOOK(__tsan_read##n, n, read)                       \
  SIMT_ALIGNED_HOOK(__tsan_write##n, n, write)                     \
  SIMT_HOOK(__tsan_unaligned_read##n, n, read)                     \
  SIMT_HOOK(__tsan_unaligned_write##n, n, write)                   \
  SIMT_VOLATILE_HOOK(__tsan_volatile_read##n, n, atomic_read)      \
  SIMT_VOLATILE_HOOK(__tsan_volatile_write##n, n, atomic_write)
SIMT_HOOKS(1) SIMT_HOOKS(2) SIMT_HOOKS(4) SIMT_HOOKS(8) SIMT_HOOKS(16)
void __tsan_read_range(void*, long);
void __tsan_write_range(void*, long);
void __tsan_vptr_update(void*, void*);
void __tsan_func_entry(void*);
void __tsan_func_exit(void*);
void __tsan_init();
uint32_t __tsan_atomic32_fetch_add(volatile void*, uint32_t, int);
void __tsan_read_range(void* p, long n) { simt::hook(p, n, simt::Access::read); }
void __tsan_write_range(void* p, long n) { simt::hook(p, n, simt::Access::write); }
void __tsan_vptr_update(void*, void*) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}
void __tsan_init() { simt::tracking = true; }
// A shared_ptr's count, in host code that stands beside kernels.
uint32_t __tsan_atomic32_fetch_add(volatile void* p, uint32_t by, int) {
  return __atomic_fetch_add(static_cast<volatile uint32_t*>(p), by, __ATOMIC_SEQ_CST);
}
}
