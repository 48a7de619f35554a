#include "cuda/graph.h"

namespace nemotron_h::cuda {

GraphExec::~GraphExec() {
  if (exec_) cudaGraphExecDestroy(exec_);  // one in flight ends by itself
}

void GraphExec::capture(const std::vector<Job>& recorded) {
  Context& context = current();
  context.overlap.separate();
  cudaGraph_t graph = nullptr;
  try {
    check(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeThreadLocal));
    for (const Job& job : recorded) {
      context.op = job.op;
      job.work();
    }
    context.op = "capture";
  } catch (const std::exception& e) {
    op_ = context.op;
    error_ = e.what();
  }
  context.overlap.separate();
  const cudaError_t ended = cudaStreamEndCapture(context.stream, &graph);
  if (error_.empty()) {
    const cudaError_t status = ended == cudaSuccess ? cudaGraphInstantiate(&exec_, graph, 0) : ended;
    op_ = context.op;
    error_ = text(status);
  }
  cudaGetLastError();  // it is told by launch()
  if (graph) cudaGraphDestroy(graph);
}

void GraphExec::launch() const {
  if (!error_.empty()) throw OpError(op_, error_);
  check(cudaGraphLaunch(exec_, current().stream));
  current().overlap.separate();
}

}  // namespace nemotron_h::cuda
