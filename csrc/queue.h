// A thread that runs what was submitted to it, one after the other, and keeps the first thing that went wrong.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace nemotron_h {

struct Job {
  const char* op;  // for errors; lives as long as the process
  std::function<void()> work;
};

// Thrown by work that did the work of another op.
struct OpError : std::runtime_error {
  OpError(const char* op, const std::string& text) : std::runtime_error(std::string(op) + ": " + text) {}
};

class Queue {
 public:
  Queue() : thread_([this] { run(); }) {}
  ~Queue() { stop(); }

  void submit(const char* op, std::function<void()> work);

  // Waits for the work that has begun. What has not is destroyed here without running; what it owns goes with it.
  void stop();

  // Waits until what was submitted before has run.
  void drain();

  // For work, on the queue's thread: the first error since the last call, as "op: text"; empty if there was none.
  std::string take_error() { return std::exchange(error_, {}); }

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::string error_;  // the thread's own
  std::thread thread_;
};

}  // namespace nemotron_h
