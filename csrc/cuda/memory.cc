#include "cuda/memory.h"

#include "cuda/context.h"

namespace nemotron_h::cuda {
namespace {

// Kept by the pool when it is freed: enough for the scratch of ops, which come and go on the stream.
constexpr uint64_t kReleaseThreshold = uint64_t{256} << 20;

}  // namespace

DeviceMemory::DeviceMemory(int index) : index_(index) {
  check(cudaSetDevice(index));
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, index};
  check(cudaMemPoolCreate(&pool_, &properties));
  uint64_t threshold = kReleaseThreshold;
  check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &threshold));
  // A block that work still uses must not be had by making allocations wait for that work.
  int no = 0;
  check(cudaMemPoolSetAttribute(pool_, cudaMemPoolReuseAllowInternalDependencies, &no));
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
}

DeviceMemory::~DeviceMemory() {
  cudaSetDevice(index_);
  cudaStreamDestroy(stream_);
  cudaMemPoolDestroy(pool_);
}

void* DeviceMemory::take(size_t bytes) {
  check(cudaSetDevice(index_));
  void* block = nullptr;
  const cudaError_t status = cudaMallocFromPoolAsync(&block, bytes, pool_, stream_);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  if (status != cudaSuccess) throw std::runtime_error("allocate: " + text(status));
  check(cudaStreamSynchronize(stream_));  // the block is there for work on any stream from now on
  return block;
}

void DeviceMemory::give_back(void* block, size_t) {
  const std::shared_ptr<void> freed(block, [index = index_, stream = work_](void* p) {
    cudaSetDevice(index);
    cudaFreeAsync(p, stream);
  });
  if (queue_) queue_->submit("free", [freed] {});
}

void DeviceMemory::settle() {
  queue_->drain();
  check(cudaSetDevice(index_));
  cudaStreamSynchronize(work_);  // if it failed, the next read tells
  check(cudaMemPoolTrimTo(pool_, 0));
}

size_t DeviceMemory::reserved() const {
  uint64_t held = 0, used = 0;
  check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrReservedMemCurrent, &held));
  check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrUsedMemCurrent, &used));
  return held - used;
}

size_t DeviceMemory::free_bytes() const {
  size_t free = 0, total = 0;
  check(cudaSetDevice(index_));
  check(cudaMemGetInfo(&free, &total));
  return free;
}

size_t DeviceMemory::total_bytes(int index) {
  size_t free = 0, total = 0;
  check(cudaSetDevice(index));
  check(cudaMemGetInfo(&free, &total));
  return total;
}

}  // namespace nemotron_h::cuda
