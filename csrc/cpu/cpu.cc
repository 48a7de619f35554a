#include "cpu/cpu.h"

namespace nemotron_h::cpu {
namespace {

// A stack of blocks for each thread: scratch is given back in the reverse of the order it was taken, and
// blocks stay for the next op.
struct Store {
  std::vector<std::vector<float>> blocks;
  size_t taken = 0;
};
thread_local Store store_of_thread;

std::string at(const char* name, int64_t i) { return std::string(name) + "[" + std::to_string(i) + "]"; }

[[noreturn]] void fail(const std::string& what, int64_t found, const std::string& expected) {
  throw std::out_of_range(what + " is " + std::to_string(found) + ", expected " + expected);
}

void set_slots(std::vector<Sequence>& list, const Tensor& slots, int64_t pool) {
  check_slots(slots, pool);
  for (size_t s = 0; s < list.size(); ++s) list[s].slot = slots.as<int32_t>()[s];
}

}  // namespace

Scratch::Scratch(int64_t n) {
  Store& store = store_of_thread;
  if (store.taken == store.blocks.size()) store.blocks.emplace_back();
  auto& block = store.blocks[store.taken];
  if (block.size() < static_cast<size_t>(n) + 16) block.resize(static_cast<size_t>(n) + 16);
  data_ = block.data();
  ++store.taken;
}

Scratch::~Scratch() { --store_of_thread.taken; }

void release_scratch() {
  auto& [blocks, taken] = store_of_thread;
  blocks.resize(taken);
  blocks.shrink_to_fit();
}

void check_indices(const char* name, const Tensor& values, int64_t limit) {
  const int32_t* v = values.as<int32_t>();
  for (int64_t i = 0; i < values.numel(); ++i)
    if (v[i] < 0 || v[i] >= limit) fail(at(name, i), v[i], "0 to " + std::to_string(limit - 1));
}

void check_slots(const Tensor& slots, int64_t pool) {
  check_indices("slots", slots, pool);
  std::vector<bool> named(pool);
  for (int64_t s = 0; s < slots.numel(); ++s) {
    const int32_t slot = slots.as<int32_t>()[s];
    if (named[slot]) throw std::out_of_range("slots names " + std::to_string(slot) + " twice, expected a slot for each sequence");
    named[slot] = true;
  }
}

std::vector<Sequence> sequences(const Tensor& offsets, const Tensor& past, int64_t tokens) {
  const int32_t *o = offsets.as<int32_t>(), *p = past.as<int32_t>();
  const int64_t count = past.size(0);
  if (o[0] != 0) fail("offsets[0]", o[0], "0");
  if (o[count] != tokens) fail(at("offsets", count), o[count], std::to_string(tokens) + ", the number of tokens");
  std::vector<Sequence> list;
  for (int64_t s = 0; s < count; ++s)
    if (o[s + 1] < o[s]) fail(at("offsets", s + 1), o[s + 1], "at least " + std::to_string(o[s]));
  for (int64_t s = 0; s < count; ++s) {
    if (p[s] < 0) fail(at("past", s), p[s], "at least 0");
    list.push_back({o[s], o[s + 1], p[s], 0});
  }
  return list;
}

std::vector<Sequence> sequences(const Tensor& offsets, const Tensor& past, int64_t tokens, const Tensor& slots, int64_t pool) {
  auto list = sequences(offsets, past, tokens);
  set_slots(list, slots, pool);
  return list;
}

std::vector<Sequence> decode_sequences(const Tensor& past, const Tensor& slots, int64_t pool) {
  std::vector<Sequence> list;
  for (int64_t s = 0; s < past.size(0); ++s) {
    const int32_t p = past.as<int32_t>()[s];
    if (p < 0) fail(at("past", s), p, "at least 0");
    list.push_back({s, s + 1, p, 0});
  }
  set_slots(list, slots, pool);
  return list;
}

}  // namespace nemotron_h::cpu
