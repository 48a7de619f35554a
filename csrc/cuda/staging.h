// Pinned host memory between the host and the GPU, and how tensors are cut to pass through it.
//
// A copy is asynchronous only where its host memory is pinned. Elements are converted on the host, as they are moved
// to or from pinned memory anyway: so the bus carries what the tensor stores.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <deque>
#include <vector>

#include "tensor.h"

namespace nemotron_h::cuda {

struct Buffer {
  std::byte* data;
  cudaEvent_t copied;                // recorded after the copy from or to it
  std::atomic<bool> unread = false;  // the host has yet to read what was copied to it
};

// Buffers that are used one after the other, each again when its last copy is over. Made when first used.
class Ring {
 public:
  Ring(int count, size_t bytes) : count_(count), bytes_(bytes) {}
  ~Ring();
  Ring(const Ring&) = delete;

  size_t bytes() const { return bytes_; }  // of a buffer
  Buffer& next();

 private:
  int count_;
  size_t bytes_;
  std::byte* memory_ = nullptr;
  std::deque<Buffer> buffers_;
  int at_ = 0;
};

// Rows of a tensor, or of one row a part, that fit a buffer.
struct Piece {
  void* address;         // of its first element, on the device
  int64_t first;         // index of that element among the tensor's
  int64_t rows, length;  // in elements
};
std::vector<Piece> pieces(const Tensor& t, size_t bytes);

// Copies a piece of `t`; its host memory is dense.
void copy_to_device(const Tensor& t, const Piece& piece, const void* host, cudaStream_t stream);
void copy_to_host(const Tensor& t, const Piece& piece, void* host, cudaStream_t stream);

// One of the two is f32, or they are the same.
void convert(DType from, const void* x, DType to, void* y, int64_t n);

// Has the system read mapped pages before they are touched.
void prefetch(const void* data, size_t bytes);

}  // namespace nemotron_h::cuda
