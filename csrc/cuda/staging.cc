#include "cuda/staging.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "cuda/context.h"

namespace nemotron_h::cuda {
namespace {

template <class F>
void with_real(DType t, F f) {
  if (t == DType::bf16) f(bf16{});
  else if (t == DType::f16) f(f16{});
  else if (t == DType::e4m3) f(e4m3{});
  else f(e5m2{});
}

}  // namespace

Ring::~Ring() {
  for (const Buffer& buffer : buffers_) cudaEventDestroy(buffer.copied);
  cudaFreeHost(memory_);
}

Buffer& Ring::next() {
  if (!memory_) check(cudaMallocHost(reinterpret_cast<void**>(&memory_), count_ * bytes_));
  if (static_cast<int>(buffers_.size()) <= at_) {
    cudaEvent_t copied;
    check(cudaEventCreateWithFlags(&copied, cudaEventBlockingSync | cudaEventDisableTiming));
    buffers_.emplace_back(memory_ + at_ * bytes_, copied);
  }
  Buffer& buffer = buffers_[at_];
  at_ = (at_ + 1) % count_;
  buffer.unread.wait(true);
  check(cudaEventSynchronize(buffer.copied));
  return buffer;
}

std::vector<Piece> pieces(const Tensor& t, size_t bytes) {
  std::vector<Piece> all;
  const int64_t most = static_cast<int64_t>(bytes / size_of(t.dtype)), elements = t.numel();
  if (elements == 0) return all;
  const int64_t length = t.dense() ? elements : t.row_size();
  const int64_t rows = std::max<int64_t>(1, most / length);  // in a piece
  for (int64_t first = 0; first < elements;) {
    const int64_t row = first / length, column = first % length;
    const int64_t width = std::min(most, length - column);
    const int64_t height = width == length ? std::min(rows, elements / length - row) : 1;
    all.push_back({static_cast<std::byte*>(t.row_address(row)) + static_cast<size_t>(column) * size_of(t.dtype), first,
                   height, width});
    first += height * width;
  }
  return all;
}

void copy_to_device(const Tensor& t, const Piece& piece, const void* host, cudaStream_t stream) {
  const size_t size = size_of(t.dtype), width = piece.length * size;
  check(piece.rows == 1 ? cudaMemcpyAsync(piece.address, host, width, cudaMemcpyHostToDevice, stream)
                        : cudaMemcpy2DAsync(piece.address, t.row_stride * size, host, width, width, piece.rows,
                                            cudaMemcpyHostToDevice, stream));
}

void copy_to_host(const Tensor& t, const Piece& piece, void* host, cudaStream_t stream) {
  const size_t size = size_of(t.dtype), width = piece.length * size;
  check(piece.rows == 1 ? cudaMemcpyAsync(host, piece.address, width, cudaMemcpyDeviceToHost, stream)
                        : cudaMemcpy2DAsync(host, width, piece.address, t.row_stride * size, width, piece.rows,
                                            cudaMemcpyDeviceToHost, stream));
}

void convert(DType from, const void* x, DType to, void* y, int64_t n) {
  if (from == to) {
    std::memcpy(y, x, static_cast<size_t>(n) * size_of(to));
  } else if (from == DType::f32) {
    with_real(to, [&]<class T>(T) {
      for (int64_t i = 0; i < n; ++i) static_cast<T*>(y)[i] = from_float<T>(static_cast<const float*>(x)[i]);
    });
  } else {
    with_real(from, [&]<class T>(T) {
      for (int64_t i = 0; i < n; ++i) static_cast<float*>(y)[i] = to_float(static_cast<const T*>(x)[i]);
    });
  }
}

void prefetch(const void* data, size_t bytes) {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = reinterpret_cast<uintptr_t>(data) / page * page;
  ::madvise(reinterpret_cast<void*>(begin), reinterpret_cast<uintptr_t>(data) + bytes - begin, MADV_WILLNEED);
}

}  // namespace nemotron_h::cuda
