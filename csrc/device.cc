#include "device.h"

#include <utility>

namespace nemotron_h {

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
  const auto& jobs = tracing_ ? graph.recorded_ : graph.compiled_;
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
