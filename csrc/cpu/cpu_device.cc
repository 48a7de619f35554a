#include "cpu/cpu_device.h"

#include <malloc.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "cpu/cpu.h"
#include "cpu/memory.h"
#include "cpu/parallel.h"
#include "cpu/simd/simd.h"

namespace nemotron_h::cpu {
namespace {

// Enough for the activations of a prefill chunk.
constexpr size_t kMaxCached = size_t{256} << 20;
constexpr int64_t kCopyElements = 1 << 16;  // a piece of a copy; less is not worth another thread

void convert(DType from, const void* x, DType to, void* y, int64_t n) {
  if (from == to) std::memcpy(y, x, static_cast<size_t>(n) * size_of(to));
  else if (from == DType::f32) simd().store(to, static_cast<const float*>(x), y, n);
  else simd().load(from, x, static_cast<float*>(y), n);  // to f32: upload and read ask for nothing else
}

// Copies between host memory that is dense and a tensor whose rows may lie apart.
template <class Row>
void for_rows(const Tensor& t, DType host_dtype, Row&& row) {
  if (t.numel() == 0) return;  // the host memory of nothing may be null
  // Dense: one long row, cut anywhere. Apart: by whole rows.
  const bool dense = t.dense();
  const int64_t rows = dense ? t.numel() : t.size(0), length = dense ? 1 : t.row_size();
  parallel_for(rows, std::max<int64_t>(1, kCopyElements / std::max<int64_t>(1, length)), [&](int64_t begin, int64_t end) {
    const auto at = [&](int64_t r) {
      return std::pair{static_cast<size_t>(r * length) * size_of(host_dtype),
                       static_cast<std::byte*>(t.data.get()) + static_cast<size_t>(r * (dense ? 1 : t.row_stride)) * size_of(t.dtype)};
    };
    if (dense) row(at(begin).first, at(begin).second, end - begin);
    else for (int64_t r = begin; r < end; ++r) row(at(r).first, at(r).second, length);
  });
}

}  // namespace

CpuDevice::CpuDevice(std::unique_ptr<Queue> queue)
    : Device(Backend::cpu, "cpu", std::make_unique<HostMemory>(*queue), kMaxCached), queue_(std::move(queue)) {}

CpuDevice::~CpuDevice() {
  queue_->stop();
  static_cast<HostMemory&>(pool().source()).detach();
}

void CpuDevice::release_cached() {
  Device::release_cached();
  queue_->submit("free", [] {
    release_scratch();  // this thread's, which has whole operands; others have rows
#ifdef __GLIBC__
    ::malloc_trim(0);  // glibc keeps freed blocks of up to 32 MiB
#endif
  });
}

void CpuDevice::enqueue(const char* op, std::function<void()> work) {
  if (!tracing()) return queue_->submit(op, std::move(work));
  queue_->submit(op, [this, op, work = std::move(work)] {
    const int64_t begin = now_ns();
    work();
    spans_.push_back({op, begin, now_ns()});
  });
}

Trace CpuDevice::stop_tracing() {
  queue_->drain();
  return {.ran = std::exchange(spans_, {}), .launched = {}};
}

void CpuDevice::upload(std::shared_ptr<const void> source, DType as, Tensor to) {
  enqueue("upload", [source = std::move(source), as, to = to.borrowed()] {
    for_rows(to, as, [&](size_t host_offset, std::byte* row, int64_t n) {
      convert(as, static_cast<const std::byte*>(source.get()) + host_offset, to.dtype, row, n);
    });
  });
}

void CpuDevice::read(Tensor from, DType as, void* host, Done done) {
  queue_->submit("read", [this, from = from.borrowed(), as, host, done = std::move(done)] {
    for_rows(from, as, [&](size_t host_offset, std::byte* row, int64_t n) {
      convert(from.dtype, row, as, static_cast<std::byte*>(host) + host_offset, n);
    });
    done(queue_->take_error());
  });
}

}  // namespace nemotron_h::cpu
