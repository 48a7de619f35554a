// Streams, events and graphs. An operation runs on the thread that waits for it: there is no other.
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "simt/runtime.h"
#include "simt/simt.h"

namespace simt {
namespace {

using Operation = std::function<void()>;

// A stream's operations, which outlive it where an event names them.
struct Line {
  int device;
  std::deque<Operation> pending;
  uint64_t given = 0, done = 0;  // operations so far
  uint32_t last = 0, before = 0;  // numbers of the operation's launch and of the one's before it; 0: not a launch
};

// Never destroyed: threads still work while the process exits.
std::mutex& state = *new std::mutex;      // of all lines, events and reports
std::mutex& execution = *new std::mutex;  // held by the thread whose operation runs
std::string* const reports = new std::string[kDevices];  // what went wrong on a device since it was last told; empty: nothing
std::minstd_rand chance;
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

void run(Line& line, const Operation& operation) {
  line.before = std::exchange(line.last, 0);
  try {
    operation();
  } catch (const Error& e) {
    const std::lock_guard lock(state);
    if (reports[line.device].empty()) reports[line.device] = e.what();
  }
}

// Runs operations until `count` of the line's are done. `state` is not held, `execution` is.
void advance(Line& line, uint64_t count) {
  for (;;) {
    Operation next;
    {
      const std::lock_guard lock(state);
      if (line.done >= count) return;
      next = std::move(line.pending.front());
      line.pending.pop_front();
    }
    run(line, next);
    const std::lock_guard lock(state);
    ++line.done;
  }
}

// What the device has to say to one who waited for it.
cudaError_t tell(int device) {
  const std::lock_guard lock(state);
  if (reports[device].empty()) return cudaSuccess;
  return error(cudaErrorLaunchFailure, std::exchange(reports[device], {}));
}

cudaError_t wait(const std::shared_ptr<Line>& line, uint64_t count) {
  {
    const std::lock_guard lock(execution);
    advance(*line, count);
  }
  return tell(line->device);
}

}  // namespace
}  // namespace simt

struct CUstream_st {
  std::shared_ptr<simt::Line> line;
  std::unique_ptr<std::vector<simt::Operation>> capture;
};
struct CUevent_st {
  std::shared_ptr<simt::Line> line;  // null: never recorded
  uint64_t count = 0;
  std::shared_ptr<std::chrono::steady_clock::time_point> time = nullptr;  // that it was reached; null: nobody will ask
};
struct CUgraph_st {
  std::vector<simt::Operation> operations;
};
struct CUgraphExec_st {
  std::vector<simt::Operation> operations;
};

namespace simt {

bool capturing(cudaStream_t stream) { return stream->capture != nullptr; }

// After an error nothing of the device runs until it has been told.
cudaError_t enqueue(cudaStream_t stream, Operation operation) {
  if (stream->capture) {
    stream->capture->push_back(std::move(operation));
    return cudaSuccess;
  }
  uint64_t until = 0;
  {
    const std::lock_guard lock(state);
    Line& line = *stream->line;
    line.pending.push_back(std::move(operation));
    ++line.given;
    if (seed() % 2 && chance() % 4 == 0) until = line.done + chance() % (line.given - line.done + 1);
  }
  if (until && execution.try_lock()) {
    const std::lock_guard lock(execution, std::adopt_lock);
    advance(*stream->line, until);
  }
  return cudaSuccess;
}

cudaError_t launch(cudaStream_t stream, const LaunchShape& shape, const void* kernel, Operation body) {
  return enqueue(stream, [line = stream->line, shape, kernel, body = std::move(body)] {
    {
      const std::lock_guard lock(state);
      if (!reports[line->device].empty()) return;
    }
    line->last = run(shape, kernel, body, line->before);
  });
}

cudaError_t reuse(cudaStream_t stream, void* p, size_t bytes, size_t reserved) {
  return enqueue(stream, [line = stream->line, p, bytes, reserved] {
    reuse(p, bytes, reserved);
    line->last = line->before;
  });
}

}  // namespace simt

using namespace simt;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st{std::make_shared<Line>(Line{current_device(), {}}), nullptr};
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->capture) return error(cudaErrorStreamCaptureUnsupported);
  uint64_t count;
  {
    const std::lock_guard lock(state);
    count = stream->line->given;
  }
  return wait(stream->line, count);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  cudaStreamSynchronize(stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st;
  if (!(flags & cudaEventDisableTiming)) (*event)->time = std::make_shared<std::chrono::steady_clock::time_point>();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (stream->capture) return error(cudaErrorStreamCaptureUnsupported);
  if (event->time) enqueue(stream, [time = event->time] { *time = std::chrono::steady_clock::now(); });
  const std::lock_guard lock(state);
  event->line = stream->line;
  event->count = stream->line->given;
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  CUevent_st recorded;
  {
    const std::lock_guard lock(state);
    recorded = *event;
  }
  return recorded.line ? wait(recorded.line, recorded.count) : cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (!begin->time || !end->time) return error(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(state);
  *milliseconds = std::chrono::duration<float, std::milli>(*end->time - *begin->time).count();
  return cudaSuccess;
}

// Stricter than CUDA: a thread that has relaxed its mode must have gone back.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->capture || capture_mode != cudaStreamCaptureModeGlobal) return error(cudaErrorIllegalState);
  stream->capture = std::make_unique<std::vector<Operation>>();
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return std::swap(*mode, capture_mode), cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!stream->capture) return error(cudaErrorIllegalState);
  *graph = new CUgraph_st{std::move(*stream->capture)};
  stream->capture = nullptr;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->operations};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  enqueue(stream, [] {});  // nothing of a graph begins before it
  for (const Operation& operation : exec->operations) enqueue(stream, operation);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
