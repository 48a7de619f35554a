#include "device.h"

#include <optional>
#include <utility>

namespace nemotron_h {
namespace {

// All of them, one after the other; then throws what went wrong first.
void run(const std::vector<Job>& jobs) {
  std::optional<OpError> first;
  for (const Job& job : jobs) {
    try {
      job.work();
    } catch (const OpError& e) {
      if (!first) first = e;
    } catch (const std::exception& e) {
      if (!first) first = OpError(job.op, e.what());
    }
  }
  if (first) throw *first;
}

}  // namespace

void Device::submit(const char* op, std::function<void()> work) {
  if (graph_) graph_->recorded_->push_back({op, std::move(work)});
  else enqueue(op, std::move(work));
}

void Device::keep(const Tensor& tensor) {
  if (graph_ && tensor && !graph_->arena_->owns(tensor.data.get())) graph_->kept_.push_back(tensor.data);
}

std::unique_ptr<Graph> Device::end_capture() {
  std::unique_ptr<Graph> graph = std::move(graph_);
  graph->compiled_ = compile(graph->recorded_);
  return graph;
}

void Device::replay(const Graph& graph) {
  if (!tracing_) return enqueue("replay", [jobs = graph.compiled_] { run(*jobs); });
  const auto& jobs = graph.recorded_;
  for (size_t i = 0; i < jobs->size(); ++i) enqueue((*jobs)[i].op, [jobs, i] { (*jobs)[i].work(); });
}

void Device::begin_trace() {
  start_tracing();
  tracing_ = true;
}

Trace Device::end_trace() {
  tracing_ = false;
  return stop_tracing();
}

}  // namespace nemotron_h
