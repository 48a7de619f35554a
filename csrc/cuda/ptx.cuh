// ptx.cuh: the PTX instructions the kernels use, one function each, named for the instruction; wgmma is in wgmma.cuh.
//
// A function has two bodies: the instruction, and what it means (simt.h). No other files hold inline
// assembly. Shared memory is passed as a pointer; the functions on `uint32_t` take a shared::cluster
// address, as made by mapa.
#pragma once
#include "cuda/launch.cuh"
#include "dtype.h"

#define PTX __device__ __forceinline__

namespace nemotron_h::cuda {

// ---- Addresses ----------------------------------------------------------------------------------

PTX uint32_t cvta_to_shared(const void* p) {
#ifdef __CUDACC__
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
#else
  return simt::shared_address(p);
#endif
}

// The address in block `rank` of the cluster of what lies at `p` in this block.
PTX uint32_t mapa(const void* p, unsigned rank) {
#ifdef __CUDACC__
  uint32_t r;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(cvta_to_shared(p)), "r"(rank));
  return r;
#else
  return simt::mapa(cvta_to_shared(p), rank);
#endif
}

PTX unsigned cluster_ctarank() {
#ifdef __CUDACC__
  unsigned r;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return r;
#else
  return simt::cluster_rank();
#endif
}

// ---- Threads that wait for each other -----------------------------------------------------------

PTX void bar_sync(unsigned id, unsigned threads) {
#ifdef __CUDACC__
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#else
  simt::bar_sync(id, threads);
#endif
}

PTX void bar_arrive(unsigned id, unsigned threads) {
#ifdef __CUDACC__
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#else
  simt::bar_arrive(id, threads);
#endif
}

PTX void barrier_cluster_arrive() {
#ifdef __CUDACC__
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#else
  simt::cluster_arrive();
#endif
}

PTX void barrier_cluster_wait() {
#ifdef __CUDACC__
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  simt::cluster_wait();
#endif
}

// True in exactly one lane of the warp.
PTX bool elect_sync() {
#ifdef __CUDACC__
  uint32_t elected;
  asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p; }" : "=r"(elected)::"memory");
  return elected;
#else
  return simt::elect_sync(~0u);
#endif
}

template <int kRegisters> PTX void setmaxnreg_inc() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
#ifdef __CUDACC__
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#else
  simt::aligned("setmaxnreg");
#endif
}

template <int kRegisters> PTX void setmaxnreg_dec() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
#ifdef __CUDACC__
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#else
  simt::aligned("setmaxnreg");
#endif
}

// All that earlier launches did is done, and visible. Later launches need this in each: see overlap.h.
PTX void griddepcontrol_wait() {
#ifndef __CUDACC__
  simt::grid_wait();
#elif __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next launch may begin, once a thread of each block has said so or the block has ended.
PTX void griddepcontrol_launch_dependents() {
#ifndef __CUDACC__
  simt::grid_launch_dependents();
#elif __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- Global memory that other blocks change ------------------------------------------------------

PTX uint32_t ld_acquire(const uint32_t* p) {
#ifdef __CUDACC__
  uint32_t v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(__cvta_generic_to_global(p)) : "memory");
  return v;
#else
  return simt::load_acquire(p);
#endif
}

PTX void st_release(uint32_t* p, uint32_t v) {
#ifdef __CUDACC__
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "r"(v) : "memory");
#else
  simt::store_release(p, v);
#endif
}

// ---- cp.async: copies into shared memory, of which each thread waits for its own ----------------

// 16, 8 or 4 bytes, both ends aligned to as many. Where not `valid`, zeros arrive and `from` is not read.
PTX void cp_async_16(void* to, const void* from, bool valid = true) {
#ifdef __CUDACC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               ::"r"(cvta_to_shared(to)), "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0) : "memory");
#else
  simt::cp_async(cvta_to_shared(to), from, 16, valid);
#endif
}

PTX void cp_async_8(void* to, const void* from, bool valid = true) {
#ifdef __CUDACC__
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;"
               ::"r"(cvta_to_shared(to)), "l"(__cvta_generic_to_global(from)), "r"(valid ? 8 : 0) : "memory");
#else
  simt::cp_async(cvta_to_shared(to), from, 8, valid);
#endif
}

PTX void cp_async_4(void* to, const void* from, bool valid = true) {
#ifdef __CUDACC__
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
               ::"r"(cvta_to_shared(to)), "l"(__cvta_generic_to_global(from)), "r"(valid ? 4 : 0) : "memory");
#else
  simt::cp_async(cvta_to_shared(to), from, 4, valid);
#endif
}

PTX void cp_async_commit_group() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  simt::cp_async_commit();
#endif
}

// Waits for this thread's copies in all but its last kLeft groups; other threads' need a barrier after their waits.
template <int kLeft>
PTX void cp_async_wait_group() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#else
  simt::cp_async_wait(kLeft);
#endif
}

PTX void cp_async_wait_all() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_all;" ::: "memory");
#else
  simt::cp_async_wait_all();
#endif
}

// ---- mbarrier -----------------------------------------------------------------------------------

PTX void mbarrier_init(uint64_t* bar, unsigned count) {
#ifdef __CUDACC__
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(cvta_to_shared(bar)), "r"(count) : "memory");
#else
  simt::mbarrier_init(cvta_to_shared(bar), count);
#endif
}

// Makes initialised barriers visible to TMA and to the cluster. Nothing reorders on the host.
PTX void fence_mbarrier_init() {
#ifdef __CUDACC__
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

PTX void mbarrier_arrive(uint64_t* bar) {
#ifdef __CUDACC__
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(cvta_to_shared(bar)) : "memory");
#else
  simt::mbarrier_arrive(cvta_to_shared(bar));
#endif
}

// Says that this thread has read what the other block may now overwrite; what it wrote is not released to that block,
// for which ptxas would put a fence of the whole GPU here.
PTX void mbarrier_arrive_cluster(uint32_t bar) {
#ifdef __CUDACC__
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(bar) : "memory");
#else
  simt::mbarrier_arrive(bar);
#endif
}

PTX void mbarrier_arrive_expect_tx(uint64_t* bar, unsigned bytes) {
#ifdef __CUDACC__
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
               ::"r"(cvta_to_shared(bar)), "r"(bytes) : "memory");
#else
  simt::mbarrier_arrive(cvta_to_shared(bar), bytes);
#endif
}

// Whether the phase of this parity is over. May give up early on the device: see mbarrier_wait.
PTX bool mbarrier_try_wait_parity(uint64_t* bar, unsigned parity) {
#ifdef __CUDACC__
  uint32_t done;
  asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(done)
        : "r"(cvta_to_shared(bar)), "r"(parity)
        : "memory");
  return done;
#else
  return simt::mbarrier_try_wait(cvta_to_shared(bar), parity);
#endif
}

PTX void mbarrier_wait(uint64_t* bar, unsigned parity) {
  while (!mbarrier_try_wait_parity(bar, parity)) {}
}

// ---- TMA and bulk copies ------------------------------------------------------------------------

// Orders this thread's ordinary writes before later accesses by TMA and wgmma.
PTX void fence_proxy_async() {
#ifdef __CUDACC__
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
  simt::fence_proxy_async();
#endif
}

PTX void cp_async_bulk_tensor_2d_load(void* to, const TensorMap& map, int column, int row, uint64_t* bar) {
#ifdef __CUDACC__
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%2, %3}], [%4];"
               ::"r"(cvta_to_shared(to)), "l"(&map), "r"(column), "r"(row), "r"(cvta_to_shared(bar)) : "memory");
#else
  simt::tma_load(cvta_to_shared(to), map, column, row, cvta_to_shared(bar));
#endif
}

// For what is read once: L2 gives it up before anything else.
inline constexpr uint64_t kEvictFirst = 0x12f0000000000000;
PTX void cp_async_bulk_tensor_2d_load(void* to, const TensorMap& map, int column, int row, uint64_t* bar,
                                      [[maybe_unused]] uint64_t policy) {
#ifdef __CUDACC__
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
               "[%0], [%1, {%2, %3}], [%4], %5;"
               ::"r"(cvta_to_shared(to)), "l"(&map), "r"(column), "r"(row), "r"(cvta_to_shared(bar)), "l"(policy)
               : "memory");
#else
  simt::tma_load(cvta_to_shared(to), map, column, row, cvta_to_shared(bar));
#endif
}

// Lands at the same place, and reports to the same barrier, in every block of the cluster named in the mask.
PTX void cp_async_bulk_tensor_2d_load_multicast(void* to, const TensorMap& map, int column, int row, uint64_t* bar,
                                                uint16_t mask) {
#ifdef __CUDACC__
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
               "[%0], [%1, {%2, %3}], [%4], %5;"
               ::"r"(cvta_to_shared(to)), "l"(&map), "r"(column), "r"(row), "r"(cvta_to_shared(bar)), "h"(mask)
               : "memory");
#else
  simt::tma_load(cvta_to_shared(to), map, column, row, cvta_to_shared(bar), mask);
#endif
}

PTX void cp_async_bulk_tensor_2d_store(const TensorMap& map, int column, int row, const void* from) {
#ifdef __CUDACC__
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];"
               ::"l"(&map), "r"(column), "r"(row), "r"(cvta_to_shared(from)) : "memory");
#else
  simt::tma_store(map, column, row, cvta_to_shared(from));
#endif
}

PTX void cp_async_bulk_load(void* to, const void* from, unsigned bytes, uint64_t* bar) {
#ifdef __CUDACC__
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
               ::"r"(cvta_to_shared(to)), "l"(from), "r"(bytes), "r"(cvta_to_shared(bar)) : "memory");
#else
  simt::bulk_load(cvta_to_shared(to), from, bytes, cvta_to_shared(bar));
#endif
}

PTX void cp_async_bulk_commit_group() {
#ifdef __CUDACC__
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#else
  simt::bulk_commit();
#endif
}

// Waits until all but the last kLeft groups of stores have read their shared memory.
template <int kLeft> PTX void cp_async_bulk_wait_group_read() {
#ifdef __CUDACC__
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kLeft) : "memory");
#else
  simt::bulk_wait_read(kLeft);
#endif
}

// Waits until the writes of those groups can be seen as well.
template <int kLeft> PTX void cp_async_bulk_wait_group() {
#ifdef __CUDACC__
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kLeft) : "memory");
#else
  simt::bulk_wait(kLeft);
#endif
}

// ---- Warp-wide matrix instructions --------------------------------------------------------------

PTX void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
        : "r"(cvta_to_shared(row))
        : "memory");
#else
  simt::ldmatrix(r, 4, cvta_to_shared(row), false);
#endif
}

PTX void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
        : "r"(cvta_to_shared(row))
        : "memory");
#else
  simt::ldmatrix(r, 4, cvta_to_shared(row), true);
#endif
}

PTX void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(cvta_to_shared(row)) : "memory");
#else
  simt::ldmatrix(r, 2, cvta_to_shared(row), false);
#endif
}

PTX void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(cvta_to_shared(row)) : "memory");
#else
  simt::ldmatrix(r, 2, cvta_to_shared(row), true);
#endif
}

PTX void stmatrix_x4(void* row, const uint32_t (&r)[4]) {
#ifdef __CUDACC__
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"
               ::"r"(cvta_to_shared(row)), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
#else
  simt::stmatrix(cvta_to_shared(row), r, 4);
#endif
}

// d += a * b', summed in f32. a: 16 x 16 (x 32 for fp8), b: 8 x 16 (x 32), both with k innermost.
PTX void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef __CUDACC__
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  simt::mma_sync(simt::Element::bf16, simt::Element::bf16, d, a, b);
#endif
}

// A, B: e4m3 or e5m2. Needs compute capability 8.9.
template <class A, class B>
PTX void mma_m16n8k32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if !defined(__CUDACC__)
  simt::mma_sync(simt::element<A>, simt::element<B>, d, a, b);
#elif __CUDA_ARCH__ >= 890
#define MMA(type_a, type_b)                                                                         \
  asm volatile("mma.sync.aligned.m16n8k32.row.col.f32." type_a "." type_b ".f32 "                   \
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                    \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                     \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
  constexpr bool a5 = std::is_same_v<A, e5m2>, b5 = std::is_same_v<B, e5m2>;
  if constexpr (a5 && b5) MMA("e5m2", "e5m2");
  else if constexpr (a5) MMA("e5m2", "e4m3");
  else if constexpr (b5) MMA("e4m3", "e5m2");
  else MMA("e4m3", "e4m3");
#undef MMA
#else
  __trap();
#endif
}

// ---- Arithmetic --------------------------------------------------------------------------------

// 2^x, with a relative error of at most 2^-22; subnormal numbers are zeros, as operands and as results.
PTX float ex2_approx_ftz(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  const float y = exp2f(x);
  return y < 0x1p-126f ? 0 : y;
#endif
}

// 1 / x, with a relative error of at most 2^-23; subnormal numbers are zeros, as operands and as results.
PTX float rcp_approx_ftz(float x) {
#ifdef __CUDACC__
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  const float y = 1 / (fabsf(x) < 0x1p-126f ? copysignf(0, x) : x);
  return fabsf(y) < 0x1p-126f ? copysignf(0, y) : y;
#endif
}

// ---- Global memory -----------------------------------------------------------------------------

PTX uint4 ld_global_v4(const uint4* p) {
#ifdef __CUDACC__
  uint4 v;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p) : "memory");
  return v;
#else
  simt::check_alignment(p, sizeof *p);
  return *p;
#endif
}

PTX uint2 ld_global_v2(const uint2* p) {
#ifdef __CUDACC__
  uint2 v;
  asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
  return v;
#else
  simt::check_alignment(p, sizeof *p);
  return *p;
#endif
}

PTX void st_global_v4(uint4* p, uint4 v) {
#ifdef __CUDACC__
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
#else
  simt::check_alignment(p, sizeof *p);
  *p = v;
#endif
}

PTX void st_global_v2(uint2* p, uint2 v) {
#ifdef __CUDACC__
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(p), "r"(v.x), "r"(v.y) : "memory");
#else
  simt::check_alignment(p, sizeof *p);
  *p = v;
#endif
}

}  // namespace nemotron_h::cuda
