// Which launches may begin while the one before them runs: programmatic dependent launch, of Hopper and later GPUs.
//
// A kernel calls griddepcontrol_wait() before it touches what other launches use, and lets the next launch begin only
// after that. So no launch is beside any but the one before it while it has not waited. Until then it may read what
// it says it reads ahead: arguments of its op, weights as a rule, that neither the op nor the one before it writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor.h"

namespace nemotron_h::cuda {

// Memory on the device; none where it has no bytes.
struct Extent {
  const void* data = nullptr;
  size_t bytes = 0;
};

class Overlap {
 public:
  // Before an op runs: what it is given.
  void begin_op();
  void reads(const Tensor& t) { read_.push_back({t.data.get(), t.span_bytes()}); }
  void writes(const Tensor& t) { written_.push_back({t.data.get(), t.span_bytes()}); }

  // Whether the op's next launch may begin while the one before it runs, and read this ahead.
  bool may_begin_early(Extent ahead) const;
  // The op launches a kernel.
  void launched() { launched_ = follows_launch_ = true; }
  // The next launch follows a graph, or is the first of one.
  void separate() { follows_launch_ = false; }

 private:
  std::vector<Extent> read_, written_;  // by the op
  std::vector<Extent> written_before_;  // by the one before it that launched something
  bool launched_ = false;               // the op has
  bool follows_launch_ = false;         // what the next launch follows is one
};

// Of the device that runs this thread's ops.
Overlap& overlap();

}  // namespace nemotron_h::cuda
