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

CHECK(reading_ahead) {
  float memory[64];
  std::string wrong;
  const auto expect = [&](bool said, bool wanted, const char* what) {
    if (said != wanted) wrong += std::string(wrong.empty() ? "" : "; ") + what;
  };
  float *const weight = memory, *const y = memory + 32;
  Overlap overlap;
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
  expect(overlap.may_read_ahead(extent(weight, 26)), true, "an argument that nobody wrote is not read ahead");
  expect(overlap.may_read_ahead(extent(weight + 2, 4)), true, "nor a part of it");
  expect(overlap.may_read_ahead(extent(weight + 25, 2)), false, "what is beyond an argument is read ahead");
  expect(overlap.may_read_ahead(extent(y, 8)), false, "a result is read ahead");
  expect(overlap.may_read_ahead(extent(memory + 48, 4)), false, "scratch is read ahead");

  writes(weight + 25, 4);
  overlap.launched();
  product();
  expect(overlap.may_read_ahead(extent(weight, 26)), false, "what the op before writes is read ahead");
  expect(overlap.may_read_ahead(extent(weight, 25)), true, "what it does not write is not");
  overlap.launched();
  expect(overlap.may_read_ahead(extent(weight, 26)), true, "nor in the second launch, before which it is over");

  writes(weight, 4);
  overlap.launched();
  writes(weight, 0);  // launches nothing
  product();
  expect(overlap.may_read_ahead(extent(weight, 26)), false, "a launch is forgotten over an op without any");

  writes(weight, 4);
  overlap.launched();
  writes(y, 8);
  overlap.launched();
  product();
  expect(overlap.may_read_ahead(extent(weight, 26)), true, "an op that is over still counts");

  overlap.begin_op();
  overlap.launched_unknown();
  product();
  expect(overlap.may_read_ahead(extent(weight, 26)), false, "what a graph may have written is read ahead");
  overlap.launched();
  product();
  expect(overlap.may_read_ahead(extent(weight, 26)), true, "a graph that is over still counts");

  overlap.begin_op();
  expect(overlap.may_read_ahead(extent(weight, 26)), false, "an argument of the op before is read ahead");
  overlap.reads(tensor(weight, 1, 8, 8));
  overlap.writes(tensor(weight + 4, 1, 1, 1));
  expect(overlap.may_read_ahead(extent(weight, 8)), false, "an argument that is updated is read ahead");
  return wrong;
}
