// Vector clocks: what each thread knows of the others' past.
//
// A thread's time counts what it has told others; an access is ordered after another thread's if the clock shows that
// thread's time then. Clocks never change once made, so the threads that leave a barrier share one.
#include <algorithm>

#include "simt/machine.h"

namespace simt {
namespace {

constexpr uint32_t kLastTime = (1u << 15) - 1;  // as much as a cell has room for; later ones count as ordered

}  // namespace

void next_time(Thread& t) {
  if (t.time == kLastTime) return;
  t.time++;
  begin_stamps(t);
}

namespace {

void raise(Times& to, const Times& from) {
  to.resize(std::max(to.size(), from.size()));
  for (size_t i = 0; i < from.size(); i++) to[i] = std::max(to[i], from[i]);
}

Clock join_clocks(const Clock& a, const Clock& b) {
  if (!a || a == b) return b;
  if (!b) return a;
  auto both = std::make_shared<Knowledge>(*a);
  raise(both->times, b->times);
  both->others = join(a->others, b->others);
  return both;
}

}  // namespace

View join(const View& a, const View& b) {
  if (!a || a == b) return b;
  if (!b) return a;
  auto both = std::make_shared<Others>(*a);
  for (const auto& [cluster, times] : *b) {
    auto& mine = (*both)[cluster];
    if (!mine || mine == times) {
      mine = times;
      continue;
    }
    auto joined = std::make_shared<Times>(*mine);
    raise(*joined, *times);
    mine = joined;
  }
  return both;
}

void Meeting::arrive(Thread& t) {
  if (!tracking) return;
  if (clocks_.empty() || clocks_.back() != t.clock) clocks_.push_back(t.clock);
  own_.push_back({t.number, t.time});
  next_time(t);
}

void Meeting::complete() {
  if (!tracking) return;
  Clock all = finished_;
  std::sort(clocks_.begin(), clocks_.end());
  clocks_.erase(std::unique(clocks_.begin(), clocks_.end()), clocks_.end());
  for (const Clock& c : clocks_) all = join_clocks(all, c);
  auto next = std::make_shared<Knowledge>(*all);
  for (auto [number, time] : own_) next->times[number] = std::max(next->times[number], time);
  clocks_.clear();
  own_.clear();
  finished_ = next, to_ = nullptr;
}

void Meeting::leave(Thread& t) {
  if (!tracking || t.clock == finished_) return;
  if (t.clock != from_ || !to_) from_ = t.clock, to_ = join_clocks(t.clock, finished_);
  t.clock = to_;
}

View view_of(Thread& t) {
  auto times = std::make_shared<Times>(t.clock->times);
  (*times)[t.number] = t.time;
  auto all = t.clock->others ? std::make_shared<Others>(*t.clock->others) : std::make_shared<Others>();
  (*all)[t.cluster->index] = times;
  next_time(t);
  return all;
}

void learn(Thread& t, const View& view) {
  if (!view || t.clock->others == view) return;
  auto next = std::make_shared<Knowledge>(*t.clock);
  next->others = join(next->others, view);
  if (const auto own = view->find(t.cluster->index); own != view->end()) raise(next->times, *own->second);
  t.clock = next;
}

}  // namespace simt
