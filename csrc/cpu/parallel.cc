#include "cpu/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace nemotron_h::cpu {
namespace {

constexpr int kSpins = 2000;  // some 10 us: ops of one layer follow each other faster than a thread wakes

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

struct Task {
  int64_t n, grain;
  void (*piece)(void*, int64_t, int64_t);
  void* body;
  std::atomic<int64_t> next = 0;
  std::atomic<bool> failed = false;
  std::exception_ptr error = nullptr;

  void work() noexcept {
    for (int64_t begin; (begin = next.fetch_add(grain)) < n;) {
      try {
        piece(body, begin, std::min(begin + grain, n));
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
        next = n;
      }
    }
  }
};

thread_local bool inside_piece = false;

class Threads {
 public:
  void run(Task& task) {
    if (inside_piece || count_ == 1) return run_here(task);
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) return run_here(task);  // busy with another environment's op
    start();

    task_ = &task;
    ++generation_;
    generation_.notify_all();
    run_here(task);
    task_ = nullptr;  // a thread that comes later finds nothing; those already in are waited for
    for (int spin = 0, in; (in = inside_) != 0; ++spin) spin < kSpins ? pause() : inside_.wait(in);
  }

  std::atomic<int> count_ = std::max(1u, std::thread::hardware_concurrency());

 private:
  static void run_here(Task& task) {
    const bool outer = std::exchange(inside_piece, true);
    task.work();
    inside_piece = outer;
  }

  // As many threads as are to be, or as the system gives.
  void start() {
    try {
      for (; started_ < count_ - 1; ++started_) std::thread([this, id = started_ + 1] { loop(id); }).detach();
    } catch (const std::system_error&) {
      count_ = started_ + 1;
    }
  }

  void loop(int id) {
    for (uint32_t seen = 0;;) {
      for (int spin = 0; generation_ == seen; ++spin) spin < kSpins ? pause() : generation_.wait(seen);
      seen = generation_;
      ++inside_;
      if (Task* task = task_; task && id < count_) run_here(*task);
      if (--inside_ == 0) inside_.notify_all();
    }
  }

  std::mutex mutex_;
  int started_ = 0;
  std::atomic<uint32_t> generation_ = 0;
  std::atomic<Task*> task_ = nullptr;
  std::atomic<int> inside_ = 0;
};

// Never destroyed: its threads sleep in it until the process ends.
Threads& pool() {
  static auto* threads = new Threads;
  return *threads;
}

}  // namespace

int threads() { return pool().count_; }
void set_threads(int count) { pool().count_ = std::max(1, count); }

void detail::run(int64_t n, int64_t grain, void (*piece)(void*, int64_t, int64_t), void* body) {
  grain = std::max<int64_t>(1, grain);
  if (n <= grain) {
    if (n > 0) piece(body, 0, n);
    return;
  }
  Task task{n, grain, piece, body};
  pool().run(task);
  if (task.failed) std::rethrow_exception(task.error);
}

}  // namespace nemotron_h::cpu
