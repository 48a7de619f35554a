// Launches that overlap: what a kernel may do before it waits for the launch before, and which may read ahead of that.
#include "check.h"
#include "cuda/overlap.cc"

using namespace nemotron_h;
using namespace nemotron_h::cuda;
using check::Array;

namespace {

__global__ void double_kernel(float* y, const float* x) {
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  y[threadIdx.x] = 2 * x[threadIdx.x];
}

// y = weight * x: weights are read before the launch before is over.
__global__ void product_kernel(float* y, const float* weight, const float* x) {
  const float w = weight[threadIdx.x];
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  y[threadIdx.x] = w * x[threadIdx.x];
}

constexpr unsigned kSize = 64;

template <class... P, class... A>
uint32_t run(void (*kernel)(P...), uint32_t before, const float* ahead, A... arguments) {
  return simt::run({1, kSize, 0, 1, true, ahead, kSize * sizeof(float)}, reinterpret_cast<const void*>(kernel),
                   [=]() SIMT_UNWATCHED { kernel(P(arguments)...); }, before);
}

Tensor tensor(float* data, int64_t rows, int64_t columns, int64_t row_stride) {
  Tensor t;
  t.data = std::shared_ptr<void>(std::shared_ptr<void>(), data);
  t.rank = 2, t.shape = {rows, columns}, t.row_stride = row_stride;
  return t;
}
Extent extent(float* data, size_t floats) { return {data, floats * sizeof(float)}; }

}  // namespace

CHECK(early_launches) {
  Array<float> x(check::integers<float>(kSize, 1, 9)), weight(check::integers<float>(kSize, 2, 9));
  Array<float> doubled(kSize), y(kSize);
  const uint32_t first = run(double_kernel, 0, nullptr, +doubled, +x);
  run(product_kernel, first, weight, +y, +weight, +doubled);
  return check::compare(y.values(), [&](size_t i) { return 2 * x.values()[i] * weight.values()[i]; });
}

CHECK(beginning_early) {
  float memory[64];
  std::string wrong;
  Overlap overlap;
  const auto expect = [&](Extent ahead, bool early, const char* otherwise) {
    if (overlap.may_begin_early(ahead) != early) wrong += std::string(wrong.empty() ? "" : "; ") + otherwise;
  };
  float *const weight = memory, *const y = memory + 32;
  const Extent weights = extent(weight, 26);
  const auto product = [&] {
    overlap.begin_op();
    overlap.reads(tensor(weight, 4, 2, 8));
    overlap.writes(tensor(y, 2, 4, 4));
  };
  const auto writes = [&](float* from, int64_t floats) {
    overlap.begin_op();
    overlap.writes(tensor(from, 1, floats, floats));
  };

  product();
  expect({}, false, "the first launch of all begins early");
  expect(weights, false, "and reads ahead");
  overlap.launched();
  product();
  expect({}, true, "what reads nothing ahead does not begin early");
  expect(weights, true, "an argument that nobody wrote is not read ahead");
  expect(extent(weight + 2, 4), true, "nor a part of it");
  expect(extent(weight + 25, 2), false, "what is beyond an argument is read ahead");
  expect(extent(y, 8), false, "a result is read ahead");
  expect(extent(memory + 48, 4), false, "scratch is read ahead");

  writes(weight + 25, 4);
  overlap.launched();
  product();
  expect({}, true, "after an op that wrote weights nothing begins early");
  expect(weights, false, "what the op before writes is read ahead");
  expect(extent(weight, 25), true, "what it does not write is not");
  overlap.launched();
  expect(weights, true, "nor in the second launch, before which it is over");

  writes(weight, 4);
  overlap.launched();
  writes(weight, 0);  // launches nothing
  product();
  expect(weights, false, "a launch is forgotten over an op without any");

  writes(weight, 4);
  overlap.launched();
  writes(y, 8);
  overlap.launched();
  product();
  expect(weights, true, "an op that is over still counts");

  overlap.begin_op();
  overlap.separate();
  product();
  expect({}, false, "a launch begins before a graph is over");
  overlap.launched();
  product();
  expect(weights, true, "a graph that is over still counts");

  overlap.begin_op();
  expect(weights, false, "an argument of the op before is read ahead");
  overlap.reads(tensor(weight, 1, 8, 8));
  overlap.writes(tensor(weight + 4, 1, 1, 1));
  expect(extent(weight, 8), false, "an argument that is updated is read ahead");
  return wrong;
}
