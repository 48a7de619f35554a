#include "cuda/stream_trace.h"

namespace nemotron_h::cuda {

StreamTrace::StreamTrace() {
  check(cudaStreamSynchronize(current().stream));
  origin_ = record();
  check(cudaEventSynchronize(origin_));
  origin_ns_ = now_ns();
}

StreamTrace::~StreamTrace() {
  for (const cudaEvent_t event : events_) cudaEventDestroy(event);
}

cudaEvent_t StreamTrace::record() {
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, cudaEventDefault));
  events_.push_back(event);
  check(cudaEventRecord(event, current().stream));
  return event;
}

void StreamTrace::begin(const char* op) {
  pairs_.push_back({record(), nullptr});
  launched_.push_back({op, now_ns(), 0});
}

void StreamTrace::end() {
  launched_.back().end = now_ns();
  pairs_.back().end = record();
}

Trace StreamTrace::finish() {
  check(cudaStreamSynchronize(current().stream));
  const auto between = [](cudaEvent_t from, cudaEvent_t to) {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, from, to));
    return static_cast<int64_t>(1e6 * milliseconds);
  };
  Trace trace;
  for (size_t i = 0; i < pairs_.size(); ++i) {
    if (!pairs_[i].end) continue;  // its work threw
    trace.launched.push_back(launched_[i]);
    const int64_t begin = origin_ns_ + between(origin_, pairs_[i].begin);
    trace.ran.push_back({launched_[i].op, begin, begin + between(pairs_[i].begin, pairs_[i].end)});
  }
  return trace;
}

}  // namespace nemotron_h::cuda
