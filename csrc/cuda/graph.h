// Recorded ops as a CUDA graph: launched as one.
#pragma once

#include <vector>

#include "cuda/context.h"
#include "queue.h"

namespace nemotron_h::cuda {

// Used on the submission thread, with its context current.
class GraphExec {
 public:
  GraphExec() = default;
  ~GraphExec();
  GraphExec(const GraphExec&) = delete;

  // Has the work launch into a graph. What it throws is kept for launch().
  void capture(const std::vector<Job>& recorded);
  void launch() const;

 private:
  cudaGraphExec_t exec_ = nullptr;
  const char* op_ = nullptr;  // that failed, and how
  std::string error_;
};

}  // namespace nemotron_h::cuda
