// What a CUDA kernel needs from the world, provided by the host: see README.md.
//
// Compiled by a host compiler, a kernel is an ordinary function, called once for every CUDA thread, each on its own
// stack (a fiber) that is switched wherever a CUDA thread may wait. This header runs kernels; builtins.h is CUDA's
// built-ins; instructions.h is what PTX means, called by cuda/ptx.cuh alone.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace simt {

// A kernel did what no kernel may do. The message names kernel, block, thread and line.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Chooses one of the executions that the programming model allows. Even seeds are lazy: asynchronous
// copies and matrix products complete only when every thread waits. Odd seeds complete them at random.
void set_seed(uint64_t seed);
uint64_t seed();

// How many host threads share the blocks of a launch; 0, as at the start: one for each processor.
void set_threads(unsigned threads);

// The largest block of pinned memory that there is: a machine may run short of it.
void set_pinned_limit(size_t bytes);

// Tickets, the words that atomicInc counts in, go back to 0: a kernel with a bug may have left them anywhere.
void clear_tickets();
void remember_ticket(unsigned* ticket);

// Whether the kernels were compiled with access hooks (README: "What sees what").
bool tracks_accesses();

struct LaunchShape {
  dim3 grid, block;
  size_t dynamic_smem = 0;
  unsigned cluster = 1;  // blocks along x that run together and see each other's shared memory
  bool early = false;    // may begin while the launch before it runs,
  const void* ahead = nullptr;  // and then read this before griddepcontrol.wait
  size_t ahead_bytes = 0;
};

// Runs a kernel to its end, or throws Error. `body` calls it, once for every CUDA thread. Gives the launch's number;
// `before` is that of the launch before it, 0 where that is not one.
uint32_t run(const LaunchShape&, const void* kernel, const std::function<void()>& body, uint32_t before = 0);

// Queues that on a stream of the emulated runtime (runtime.cc).
cudaError_t launch(cudaStream_t, const LaunchShape&, const void* kernel, std::function<void()> body);

// Reports an error from inside a kernel and ends the launch.
[[noreturn]] void fail(const std::string& what);

// ---- Global memory

// Device memory: aligned to 256 bytes, filled with 0xff (NaN), no address ever used twice. Null when there is none.
void* allocate(size_t bytes);
void release(void* p);

// Of `reserved` bytes within an allocation the first `bytes` are as if they had just been allocated, the rest as if they
// were not: at once, or in the order of a stream, where it does not come between two launches.
void reuse(void* p, size_t bytes, size_t reserved);
cudaError_t reuse(cudaStream_t, void* p, size_t bytes, size_t reserved);

// To be called before a copy from the host, or a memset: Error unless p lies in one allocation.
void host_writes(void* p, size_t bytes);

// ---- Shared memory

void* dynamic_smem();
void* static_smem(const void* declaration, size_t bytes, size_t alignment);

// A shared-memory address as PTX sees it: 32 bits. Addresses that mapa returns also name a block.
uint32_t shared_address(const void*);

// A non-owning reference to a callable: std::function without the allocation.
template <class>
class FunctionRef;
template <class R, class... A>
class FunctionRef<R(A...)> {
 public:
  template <class F>
    requires(!std::is_same_v<std::decay_t<F>, FunctionRef>)
  FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, A... a) -> R { return (*static_cast<std::remove_reference_t<F>*>(o))(a...); }) {}
  R operator()(A... a) const { return call_(object_, a...); }

 private:
  void* object_;
  R (*call_)(void*, A...);
};

}  // namespace simt

#include "simt/builtins.h"
#include "simt/instructions.h"
