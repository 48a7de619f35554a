// When ops ran on a stream: a pair of events around each. They cost a microsecond or two for every op.
#pragma once

#include <vector>

#include "cuda/context.h"
#include "trace.h"

namespace nemotron_h::cuda {

// Used on the submission thread, whose context is current.
class StreamTrace {
 public:
  // Waits for the stream: what ran before is not told.
  StreamTrace();
  ~StreamTrace();
  StreamTrace(const StreamTrace&) = delete;

  void begin(const char* op);
  void end();
  // Waits for the stream.
  Trace finish();

 private:
  struct Pair {
    cudaEvent_t begin, end;
  };

  cudaEvent_t record();

  std::vector<cudaEvent_t> events_;  // all
  std::vector<Pair> pairs_;          // of each of launched_
  std::vector<Span> launched_;
  cudaEvent_t origin_;
  int64_t origin_ns_;
};

}  // namespace nemotron_h::cuda
