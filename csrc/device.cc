#include "device.h"

#include <utility>

namespace nemotron_h {

void Device::submit(const char* op, std::function<void()> work) {
  if (graph_) graph_->jobs_->push_back({op, std::move(work)});
  else enqueue(op, std::move(work));
}

void Device::keep(const Tensor& tensor) {
  if (graph_ && tensor && !graph_->arena_->owns(tensor.data.get())) graph_->kept_.push_back(tensor.data);
}

std::unique_ptr<Graph> Device::end_capture() {
  std::unique_ptr<Graph> graph = std::move(graph_);
  *graph->jobs_ = compile(std::move(*graph->jobs_));
  return graph;
}

void Device::replay(const Graph& graph) {
  for (size_t i = 0; i < graph.jobs_->size(); ++i)
    enqueue((*graph.jobs_)[i].op, [jobs = graph.jobs_, i] { (*jobs)[i].work(); });
}

}  // namespace nemotron_h
