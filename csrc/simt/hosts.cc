// Which host thread runs which cluster, and running a launch.
//
// A host thread takes one cluster after another. Only when all threads of a cluster wait for memory that others may
// change (they poll) does it take up a further one beside it, so blocks may wait for each other as on a device.
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <thread>

#include "simt/machine.h"
#include "simt/report.h"

namespace simt {
namespace {

constexpr size_t kResidentThreads = 8192;  // CUDA threads that a host thread has under way
constexpr int kPatience = 64;              // fruitless rounds over everything before it is called a deadlock
constexpr uint64_t kMoving = ~0ull;

std::atomic<uint64_t> chosen_seed{0};
std::atomic<unsigned> host_threads{0};

// Clusters with their stacks and shared memory, for the next blocks.
std::mutex idle_mutex;
std::vector<std::unique_ptr<Cluster>>& idle = *new std::vector<std::unique_ptr<Cluster>>;

std::unique_ptr<Cluster> idle_cluster() {
  const std::lock_guard lock(idle_mutex);
  if (idle.empty()) return std::make_unique<Cluster>();
  auto cluster = std::move(idle.back());
  idle.pop_back();
  return cluster;
}
void put_away(std::unique_ptr<Cluster> cluster) {
  const std::lock_guard lock(idle_mutex);
  idle.push_back(std::move(cluster));
}

// A host thread's share of a launch.
class Worker {
 public:
  explicit Worker(Launch& launch) : launch_(launch) {
    std::lock_guard lock(launch.mutex);
    launch.stalled.push_back(&stalled_);
  }
  ~Worker() {
    std::lock_guard lock(launch_.mutex);
    std::erase(launch_.stalled, &stalled_);
  }

  void work() {
    try {
      while (!launch_.stop && (take() || !residents_.empty())) round();
    } catch (const std::exception& e) {
      std::lock_guard lock(launch_.mutex);
      if (launch_.error.empty()) launch_.error = e.what();
      launch_.stop = true;
    }
    running = nullptr;
    current = nullptr;
    for (auto& c : residents_) put_away(std::move(c));
  }

 private:
  // Another cluster, if there is none under way, or all of those wait for others.
  bool take() {
    const size_t wanted = launch_.lazy() ? 1 : 2;
    if ((residents_.size() >= wanted && !all_stalled_) || full()) return false;
    const uint64_t n = launch_.next++;
    if (n >= launch_.clusters) return false;
    residents_.push_back(idle_cluster());
    // The device promises no order of blocks: every fourth seed begins with the last.
    set_up(*residents_.back(), launch_, launch_.seed % 4 == 3 ? launch_.clusters - 1 - n : n);
    moved(*residents_.back());
    all_stalled_ = false;
    return true;
  }

  void round() {
    const uint64_t progress = launch_.progress;
    bool stalled = true;
    for (size_t i = 0; i < residents_.size() && !launch_.stop; i++) {
      const Slice slice = run_slice(*residents_[i], residents_.size() > 1);
      stalled &= slice == Slice::stalled;
      if (slice != Slice::finished) continue;
      put_away(std::move(residents_[i]));
      residents_.erase(residents_.begin() + i--);
    }
    all_stalled_ = stalled && progress == launch_.progress;
    const bool stuck = all_stalled_ && (launch_.next >= launch_.clusters || full());
    stalled_ = stuck ? progress : kMoving;
    if (!stuck) patience_ = kPatience;
    else if (nobody_moves(progress) && --patience_ == 0)
      fail("deadlock: all threads that run wait for what none of them does" + stories(*residents_[0]));
    else std::this_thread::yield();
  }

  bool full() const {
    const dim3 block = launch_.shape.block;
    const size_t threads = size_t{block.x} * block.y * block.z * launch_.shape.cluster;
    return !residents_.empty() && (residents_.size() + 1) * threads > kResidentThreads;
  }

  bool nobody_moves(uint64_t progress) {
    std::lock_guard lock(launch_.mutex);
    return std::all_of(launch_.stalled.begin(), launch_.stalled.end(),
                       [&](auto* other) { return other->load() == progress; }) &&
           launch_.progress == progress;
  }

  Launch& launch_;
  std::vector<std::unique_ptr<Cluster>> residents_;
  bool all_stalled_ = false;
  int patience_ = kPatience;
  std::atomic<uint64_t> stalled_{kMoving};
};

// Host threads that help with launches, for as long as the process lives.
class Pool {
 public:
  // Runs job() here and on up to `helpers` threads of the pool, those that find the time; returns when all are done.
  void run(unsigned helpers, const std::function<void()>& job) {
    Task task{&job, 0};
    {
      std::lock_guard lock(mutex_);
      while (threads_ < helpers) std::thread([this] { help(); }).detach(), threads_++;
      tasks_.insert(tasks_.end(), helpers, &task);
    }
    wake_.notify_all();
    job();
    std::unique_lock lock(mutex_);
    std::erase(tasks_, &task);
    done_.wait(lock, [&] { return task.helpers == 0; });
  }

 private:
  struct Task {
    const std::function<void()>* job;
    unsigned helpers;
  };

  void help() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return !tasks_.empty(); });
      Task& task = *tasks_.front();
      tasks_.pop_front();
      task.helpers++;
      lock.unlock();
      (*task.job)();
      lock.lock();
      if (--task.helpers == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::deque<Task*> tasks_;
  unsigned threads_ = 0;
};

}  // namespace

void set_seed(uint64_t seed) { chosen_seed = seed; }
uint64_t seed() { return chosen_seed; }
void set_threads(unsigned threads) { host_threads = threads; }

uint32_t run(const LaunchShape& shape, const void* kernel, const std::function<void()>& body, uint32_t before) {
  Launch launch(shape, kernel, body, chosen_seed);
  const auto refuse = [&](const std::string& what) { throw Error("simt: " + name_of_kernel(kernel) + ": " + what); };
  const uint64_t per_block = uint64_t{shape.block.x} * shape.block.y * shape.block.z;
  if (per_block == 0 || per_block > 1024) refuse(format("a block of %lu threads, expected 1 to 1024", per_block));
  if (shape.dynamic_smem > kLimit)
    refuse(format("%zu bytes of dynamic shared memory, expected at most %u", shape.dynamic_smem, kLimit));
  if (shape.cluster < 1 || shape.cluster > kMaxCluster || shape.grid.x % shape.cluster)
    refuse(format("a grid of %u blocks in clusters of %u", shape.grid.x, shape.cluster));
  if (!shape.grid.x || !shape.grid.y || !shape.grid.z || shape.grid.y > 65535 || shape.grid.z > 65535)
    refuse(format("a grid of %u x %u x %u, expected at least 1, and at most 65535 along y and z", shape.grid.x,
                  shape.grid.y, shape.grid.z));
  launch.clusters = uint64_t{shape.grid.x} / shape.cluster * shape.grid.y * shape.grid.z;

  LaunchNumber number;
  launch.number = number;
  launch.before = before;
  static Pool& pool = *new Pool;  // its threads outlive all else
  const unsigned hosts = host_threads ? host_threads.load() : std::thread::hardware_concurrency();
  pool.run(std::min<uint64_t>(hosts, launch.clusters) - 1, [&] { Worker(launch).work(); });
  if (!launch.error.empty()) throw Error(launch.error);
  return number;
}

}  // namespace simt
