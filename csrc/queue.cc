#include "queue.h"

namespace nemotron_h {

void Queue::submit(const char* op, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back({op, std::move(work)});
  }
  wake_.notify_one();
}

void Queue::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  jobs_.clear();
}

void Queue::drain() {
  std::promise<void> ran;
  submit("drain", [&] { ran.set_value(); });
  ran.get_future().wait();
}

void Queue::run() {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    try {
      job.work();
    } catch (const OpError& e) {
      if (error_.empty()) error_ = e.what();
    } catch (const std::exception& e) {
      if (error_.empty()) error_ = std::string(job.op) + ": " + e.what();
    }
  }
}

}  // namespace nemotron_h
