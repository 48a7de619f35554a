// wgmma: 128 threads and a matrix unit that reads shared memory on its own.
//
// Accumulators are taken: a NaN stands in their registers until the wait_group that covers the product; if it is gone
// at the next issue, somebody touched a register in flight. Operands are read at completion. Sums of fp8 products keep
// 14 bits, as on Hopper: "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 3.3.2.
#include <algorithm>
#include <cmath>

#include "simt/machine.h"
#include "simt/tensor_core.h"

namespace simt {
namespace {

constexpr uint32_t kPoison = 0x7fc0dead;  // a NaN, for accumulators in flight
constexpr int kFraction = 13;             // bits that products keep below the leading one of the largest

// Where an operand's element lies. `row` counts along M or N, `k` along K.
uint32_t operand_offset(uint64_t descriptor, bool mn_major, int row, int k, int element_bytes) {
  const uint32_t start = (descriptor & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4,
                 stride = (descriptor >> 32 & 0x3fff) << 4;
  const unsigned layout = descriptor >> 62;  // 0 none, 1 128B, 2 64B, 3 32B
  constexpr uint32_t kPitch[] = {16, 128, 64, 32}, kXor[] = {0, 7, 3, 1};
  const uint32_t byte = k * element_bytes;
  const uint32_t offset = mn_major ? start + row / 64 * leading + k / 8 * stride + k % 8 * 128 + row % 64 * 2
                                   : start + row / 8 * stride + row % 8 * kPitch[layout] +
                                         (layout ? byte : byte / 16 * leading + byte % 16);
  return offset ^ (offset >> 7 & kXor[layout]) << 4;
}

void add_operand(std::vector<Range>& ranges, uint64_t descriptor, bool mn_major, int rows, Element e) {
  if (descriptor >> 49 & 7) fail("wgmma: a base offset in the matrix descriptor is not modelled");
  if (mn_major && (e != Element::bf16 || descriptor >> 62 != 1))
    fail("wgmma: MN-major is modelled for bf16 with 128-byte swizzle only");
  const int per_chunk = 16 / bytes_of(e), k = 32 / bytes_of(e);
  for (int row = 0; row < rows; row += mn_major ? per_chunk : 1)
    for (int i = 0; i < k; i += mn_major ? 1 : per_chunk)
      ranges.push_back({position(operand_offset(descriptor, mn_major, row, i, bytes_of(e)), 16, "wgmma operand"), 16});
}

// The place of register i of thread t in the 64 x n result; the A fragment of RS follows mma.sync.
int result_row(int t, int i) { return t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8; }
int result_column(int t, int i) { return i / 4 * 8 + t % 4 * 2 + i % 2; }

// d[n] += sum over i of a[i] * b[i][n], the products (and d) aligned to the largest and cut off below it.
void add_aligned(int k, int n, const float* a, const float* b, float* d) {
  float largest[256], sums[256];
  for (int j = 0; j < n; j++) largest[j] = std::fabs(d[j]);
  for (int i = 0; i < k; i++)
    for (int j = 0; j < n; j++) {
      const float p = std::fabs(a[i] * b[i * n + j]);
      largest[j] = p > largest[j] ? p : largest[j];
    }
  // What is kept are multiples of this unit: a power of two, kFraction bits below the largest's.
  float per_unit[256], units[256];
  for (int j = 0; j < n; j++) {
    const float power = bits<float>(bits<uint32_t>(largest[j]) & 0x7f800000u);
    units[j] = std::max(power / (1 << kFraction), 0x1p-126f);
    per_unit[j] = 1 / units[j];
    sums[j] = std::trunc(d[j] * per_unit[j]);
  }
  for (int i = 0; i < k; i++)
    for (int j = 0; j < n; j++) sums[j] += std::trunc(a[i] * b[i * n + j] * per_unit[j]);
  for (int j = 0; j < n; j++) {
    if (largest[j] < INFINITY && !std::isnan(sums[j])) d[j] = sums[j] * units[j];
    else  // NaN and infinity come through as they are
      for (int i = 0; i < k; i++) d[j] += a[i] * b[i * n + j];
  }
}

void multiply(WgmmaOp& op, unsigned rank) {
  const Wgmma& w = op.what;
  const int bytes = bytes_of(w.a_type), k = 32 / bytes, per_chunk = 16 / bytes;
  const char* const memory = current->shared.bytes + rank * kArena;
  std::vector<float> a(64 * k), b(k * w.n);
  // Calls put(row, k, value) for all elements of an operand, 16 bytes of consecutive elements at a time.
  const auto load = [&](Element e, uint64_t descriptor, bool mn_major, int rows, auto put) {
    float values[16];
    for (int row = 0; row < rows; row += mn_major ? per_chunk : 1)
      for (int i = 0; i < k; i += mn_major ? 1 : per_chunk) {
        widen(e, memory + operand_offset(descriptor, mn_major, row, i, bytes), per_chunk, values);
        for (int j = 0; j < per_chunk; j++) mn_major ? put(row + j, i, values[j]) : put(row, i + j, values[j]);
      }
  };
  load(w.b_type, w.b, w.b_mn_major, w.n, [&](int row, int i, float v) { b[i * w.n + row] = v; });
  if (op.a_registers.empty()) {
    load(w.a_type, w.a, w.a_mn_major, 64, [&](int row, int i, float v) { a[row * k + i] = v; });
  } else {
    const int per_word = 4 / bytes;
    for (int t = 0; t < 128; t++) {
      if (!std::equal(op.a_places[t], op.a_places[t] + 4, &op.a_registers[t * 4]))
        fail(format("wgmma: thread %d of the warpgroup changed the registers of operand A while in flight", t));
      for (int r = 0; r < 4; r++) {
        const int row = t / 32 * 16 + t % 32 / 4 + r % 2 * 8, column = t % 4 * per_word + r / 2 * k / 2;
        widen(w.a_type, &op.a_registers[t * 4 + r], per_word, &a[row * k + column]);
      }
    }
  }
  auto& result = op.accumulator->value;
  if (!w.accumulate) std::fill(result.begin(), result.end(), 0.0f);
  for (int m = 0; m < 64; m++) {
    float* __restrict d = &result[m * w.n];
    if (bytes == 1) {
      add_aligned(k, w.n, &a[m * k], b.data(), d);
      continue;
    }
    for (int i = 0; i < k; i++) {
      const float factor = a[m * k + i];
      const float* __restrict row = &b[i * w.n];
      for (int n = 0; n < w.n; n++) d[n] += factor * row[n];
    }
  }
}

Warpgroup& warpgroup() {
  if (running->id / 128 * 128 + 128 > here().threads) fail("wgmma needs a warpgroup of 128 threads");
  return here().warpgroups[running->id / 128];
}

// The first thread to issue an instruction describes it for all.
void put_in_flight(Warpgroup& group, const Wgmma& what, std::shared_ptr<Accumulator> accumulator, bool a_in_registers) {
  const Thread& t = *running;
  const size_t index = group.ops.size();
  if (!accumulator) accumulator = std::make_shared<Accumulator>(Accumulator{what.n, std::vector<float>(64 * what.n)});
  group.ops.push_back({what, std::move(accumulator), std::vector<uint32_t>(a_in_registers ? 512 : 0),
                       std::vector<const uint32_t*>(a_in_registers ? 128 : 0)});
  std::vector<Range> ranges;
  if (!a_in_registers) add_operand(ranges, what.a, what.a_mn_major, 64, what.a_type);
  add_operand(ranges, what.b, what.b_mn_major, what.n, what.b_type);
  launch_operation({"wgmma of warpgroup " + std::to_string(t.id / 128) + " of " + name_of(t), &group, true, false,
                    std::move(ranges), [&group, index] { return group.ops[index].issued == 128; },
                    [&group, index, rank = here().rank] { multiply(group.ops[index], rank), group.completed++; }});
}

}  // namespace

// Each of the 128 threads calls this once per instruction. The accumulator registers are taken away
// (NaN is left in them) and come back in the wait that covers the instruction.
void wgmma(const Wgmma& what, float* d, const uint32_t* a_registers) {
  aligned("wgmma");
  Thread& t = *running;
  Warpgroup& group = warpgroup();
  const unsigned lane = t.id % 128;
  const uint64_t index = t.wgmma_issued++;
  if (!t.wgmma_fenced) fail("wgmma without wgmma.fence since the registers were last its own");

  auto lent = std::find_if(t.lent.begin(), t.lent.end(), [&](auto& l) { return l.accumulator->registers[lane] == d; });
  if (index == group.ops.size())
    put_in_flight(group, what, lent != t.lent.end() ? lent->accumulator : nullptr, a_registers != nullptr);
  WgmmaOp& op = group.ops[index];
  if (!(op.what == what))
    fail(format("wgmma: not all threads of the warpgroup issue the same instruction (the %luth)", (unsigned long)index));
  if (lent != t.lent.end() ? lent->accumulator != op.accumulator : op.accumulator->registers[lane] != nullptr)
    fail("wgmma: the threads of the warpgroup disagree on which accumulators are in flight");
  for (int i = 0; i < what.n / 2; i++) {
    if (lent != t.lent.end()) {
      if (bits<uint32_t>(d[i]) != kPoison) fail(format("wgmma: accumulator %d was changed while in flight", i));
    } else {
      op.accumulator->value[result_row(lane, i) * what.n + result_column(lane, i)] = d[i];
      d[i] = bits<float>(kPoison);
    }
  }
  if (lent == t.lent.end()) lent = t.lent.insert(lent, {op.accumulator, 0});
  op.accumulator->registers[lane] = d;
  lent->last_use = index + 1;
  if (a_registers) {
    std::copy_n(a_registers, 4, &op.a_registers[lane * 4]);
    op.a_places[lane] = a_registers;
  }
  op.issued++;
}

void wgmma_fence() {
  aligned("wgmma.fence");
  running->wgmma_fenced = true;
}

void wgmma_commit() {
  aligned("wgmma.commit_group");
  running->wgmma_groups.push_back(running->wgmma_issued);
}

void wgmma_wait(unsigned groups_left) {
  aligned("wgmma.wait_group");
  Thread& t = *running;
  Warpgroup& group = warpgroup();
  const unsigned lane = t.id % 128;
  const uint64_t target = close_groups(t.wgmma_groups, groups_left);
  while (group.completed < target) {
    wait(&group, [&] {
      return format("wgmma.wait_group %u: %u of 128 threads have issued instruction %lu", groups_left,
                    group.ops[group.completed].issued, (unsigned long)group.completed);
    });
  }
  std::erase_if(t.lent, [&](auto& lent) {
    if (lent.last_use > target) return false;
    const Accumulator& accumulator = *lent.accumulator;
    for (int i = 0; i < accumulator.n / 2; i++)
      accumulator.registers[lane][i] = accumulator.value[result_row(lane, i) * accumulator.n + result_column(lane, i)];
    t.wgmma_fenced = false;
    return true;
  });
}

}  // namespace simt
