#include "simt/runtime.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "simt/simt.h"

namespace simt {
namespace {

constexpr size_t kTotal = size_t{256} << 20;  // bytes of a GPU
constexpr int kVersion = 13000;
constexpr int kProcessors = 4;

using Ranges = std::map<uintptr_t, size_t>;  // where each begins, and its bytes

// Never destroyed: threads still work while the process exits.
std::mutex& tables = *new std::mutex;
Ranges &device_ranges = *new Ranges, &pinned_ranges = *new Ranges;
auto& blocks = *new std::map<void*, std::shared_ptr<void>>;  // what cudaFreeAsync is given; a graph's are its own
size_t held[kDevices];                                       // bytes of device memory
std::atomic<size_t> pinned_limit = SIZE_MAX;

thread_local int chosen = 0;
thread_local std::string last_detail;

bool covers(const Ranges& ranges, const void* p, size_t bytes) {
  const auto at = reinterpret_cast<uintptr_t>(p);
  auto after = ranges.upper_bound(at);
  if (after == ranges.begin()) return false;
  --after;
  return at - after->first + bytes <= after->second;
}

std::string extent(const void* p, size_t bytes) {
  char text[64];
  std::snprintf(text, sizeof text, "%zu bytes at %p", bytes, p);
  return text;
}

std::shared_ptr<void> device_block(int device, size_t bytes) {
  void* block = allocate(bytes);
  if (!block) throw std::bad_alloc();
  const std::lock_guard lock(tables);
  device_ranges[reinterpret_cast<uintptr_t>(block)] = bytes;
  held[device] += bytes;
  return {block, [device, bytes](void* p) {
            const std::lock_guard lock(tables);
            device_ranges.erase(reinterpret_cast<uintptr_t>(p));
            held[device] -= bytes;
            release(p);
          }};
}

}  // namespace

void set_pinned_limit(size_t bytes) { pinned_limit = bytes; }

cudaError_t error(cudaError_t status, const std::string& detail) {
  last_detail = detail;
  return status;
}

int current_device() { return chosen; }

bool is_pinned(const void* p, size_t bytes) {
  const std::lock_guard lock(tables);
  return covers(pinned_ranges, p, bytes);
}

void check_device_range(const void* p, size_t bytes, const char* what) {
  const std::lock_guard lock(tables);
  if (!covers(device_ranges, p, bytes))
    throw Error(std::string(what) + ": " + extent(p, bytes) + " are not in one piece of device memory in use");
}

void check_copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const bool up = kind == cudaMemcpyHostToDevice, down = kind == cudaMemcpyDeviceToHost;
  const void* host = up ? from : to;
  if (!up) check_device_range(from, bytes, "copy");
  if (!down) check_device_range(to, bytes, "copy");
  if ((up || down) && !is_pinned(host, bytes)) throw Error("copy: " + extent(host, bytes) + " of pinned memory were freed before it ran");
}

}  // namespace simt

using namespace simt;

struct CUmemPoolHandle_st {
  int device;
};

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorIllegalState: return "cudaErrorIllegalState";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    default: return "cudaErrorUnknown";
  }
}

const char* cudaGetErrorString(cudaError_t status) {
  if (!last_detail.empty()) return last_detail.c_str();
  switch (status) {
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return "the emulated runtime has no more to say";
  }
}

cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaDriverGetVersion(int* version) { return *version = kVersion, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = kVersion, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { return *count = kDevices, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = chosen, cudaSuccess; }

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= kDevices) return error(cudaErrorInvalidDevice);
  chosen = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: return *value = 9, cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: return *value = 0, cudaSuccess;
    case cudaDevAttrMultiProcessorCount: return *value = kProcessors, cudaSuccess;
    default: return error(cudaErrorInvalidValue, "cudaDeviceGetAttribute: an attribute that is not emulated");
  }
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "SIMT emulator");
  properties->major = 9;
  properties->multiProcessorCount = kProcessors;
  properties->totalGlobalMem = kTotal;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->ptxVersion = attributes->binaryVersion = 90;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const std::lock_guard lock(tables);
  *total = kTotal;
  *free = kTotal - held[chosen];
  return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  *pool = new CUmemPoolHandle_st{properties->location.id};
  return cudaSuccess;
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  delete pool;
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }

// A pool keeps nothing: freed memory is the system's, so that what still uses it is found.
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
  *static_cast<uint64_t*>(value) = 0;
  return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }
cudaError_t cudaDeviceGraphMemTrim(int) { return cudaSuccess; }

cudaError_t cudaMallocFromPoolAsync(void** block, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  {
    const std::lock_guard lock(tables);
    if (bytes > kTotal - held[pool->device]) return error(cudaErrorMemoryAllocation);
  }
  std::shared_ptr<void> memory = device_block(pool->device, bytes);
  *block = memory.get();
  // In a graph the block is the graph's: at the same place in every launch, and new each time.
  if (capturing(stream)) return enqueue(stream, [memory, bytes] { reuse(memory.get(), bytes, bytes); });
  const std::lock_guard lock(tables);
  blocks[*block] = std::move(memory);
  return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* block, cudaStream_t stream) {
  if (capturing(stream)) return cudaSuccess;
  return enqueue(stream, [block] {
    std::shared_ptr<void> memory;
    const std::lock_guard lock(tables);
    const auto found = blocks.find(block);
    if (found == blocks.end()) throw Error("cudaFreeAsync: " + extent(block, 0) + " is no block in use");
    memory = std::move(found->second);
    blocks.erase(found);
  });
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  if (bytes > pinned_limit) return error(cudaErrorMemoryAllocation);
  *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  std::memset(*memory, 0xff, bytes);
  const std::lock_guard lock(tables);
  pinned_ranges[reinterpret_cast<uintptr_t>(*memory)] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  const std::lock_guard lock(tables);
  pinned_ranges.erase(reinterpret_cast<uintptr_t>(memory));
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  const bool up = kind == cudaMemcpyHostToDevice, within = kind == cudaMemcpyDeviceToDevice;
  if (!up && !within && kind != cudaMemcpyDeviceToHost) return error(cudaErrorInvalidValue, "a copy within the host");
  if (!within && !is_pinned(up ? from : to, (height - 1) * (up ? from_pitch : to_pitch) + width))
    return error(cudaErrorInvalidValue, "the host memory of an asynchronous copy is not pinned");
  return enqueue(stream, [=] {
    for (size_t r = 0; r < height; ++r) {
      auto* row_to = static_cast<std::byte*>(to) + r * to_pitch;
      const auto* row_from = static_cast<const std::byte*>(from) + r * from_pitch;
      check_copy(row_to, row_from, width, kind);
      if (up || within) host_writes(row_to, width);
      std::memcpy(row_to, row_from, width);
    }
  });
}

cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
  return enqueue(stream, [=] {
    check_device_range(p, bytes, "cudaMemsetAsync");
    host_writes(p, bytes);
    std::memset(p, value, bytes);
  });
}
