// Ops that copy rows: from a table, from the ends of sequences, or into another element type.
#include "cpu/cpu.h"
#include "ops.h"

namespace nemotron_h::cpu {
namespace {

// Row i of `to` is row source(i) of `from`, rounded once.
template <class Source>
void copy_rows(const Tensor& from, const Tensor& to, Source source) {
  const int64_t D = to.size(1);
  parallel_for(to.size(0), grain(D), [&](int64_t begin, int64_t end) {
    const Scratch floats(D);
    for (int64_t i = begin; i < end; ++i) store_row(to, i, load_row(from, source(i), floats));
  });
}

}  // namespace

void embedding(const Tensor& ids, const Tensor& weight, DType, const Tensor& y) {
  check_indices("ids", ids, weight.size(0));
  copy_rows(weight, y, [&](int64_t t) { return ids.as<int32_t>()[t]; });
}

void last_rows(const Tensor& x, const Tensor& offsets, const Tensor& y) {
  const int32_t* ends = offsets.as<int32_t>();
  const int64_t S = y.size(0);
  const auto fail = [&](int64_t i, const std::string& expected) {
    throw std::out_of_range("offsets[" + std::to_string(i) + "] is " + std::to_string(ends[i]) +
                            ", expected " + expected);
  };
  if (ends[0] != 0) fail(0, "0");
  for (int64_t s = 0; s < S; ++s)
    if (ends[s + 1] <= ends[s])
      fail(s + 1, "more than " + std::to_string(ends[s]) + ", as no sequence may be empty");
  if (ends[S] != x.size(0)) fail(S, std::to_string(x.size(0)) + ", the number of tokens");
  copy_rows(x, y, [&](int64_t s) { return ends[s + 1] - 1; });
}

void cast(const Tensor& x, DType, const Tensor& y) {
  copy_rows(x, y, [](int64_t t) { return t; });
}

}  // namespace nemotron_h::cpu
