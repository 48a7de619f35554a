#include "cuda/overlap.h"

#include <algorithm>
#include <utility>

namespace nemotron_h::cuda {
namespace {

uintptr_t begin(Extent e) { return reinterpret_cast<uintptr_t>(e.data); }
uintptr_t end(Extent e) { return begin(e) + e.bytes; }
bool meet(Extent a, Extent b) { return begin(a) < end(b) && begin(b) < end(a); }
bool within(Extent a, Extent b) { return begin(a) >= begin(b) && end(a) <= end(b); }

template <class F>
bool any(const std::vector<Extent>& extents, F f) { return std::any_of(extents.begin(), extents.end(), f); }

}  // namespace

void Overlap::begin_op() {
  if (std::exchange(launched_, false)) std::swap(written_before_, written_);
  read_.clear();
  written_.clear();
}

bool Overlap::may_begin_early(Extent ahead) const {
  if (!follows_launch_) return false;
  if (!ahead.bytes) return true;
  const auto meets = [&](Extent e) { return meet(ahead, e); };
  // Not scratch, which the op's launch before this one may write.
  if (!any(read_, [&](Extent e) { return within(ahead, e); }) || any(written_, meets)) return false;
  return launched_ || !any(written_before_, meets);
}

}  // namespace nemotron_h::cuda
