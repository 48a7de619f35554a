// What PTX instructions mean; cuda/ptx.cuh calls these, and nobody else does.
#pragma once

#include "dtype.h"

namespace simt {

enum class Element : uint8_t { bf16, e4m3, e5m2 };
template <class T>
inline constexpr Element element = std::is_same_v<T, nemotron_h::bf16>   ? Element::bf16
                                   : std::is_same_v<T, nemotron_h::e4m3> ? Element::e4m3
                                                                         : Element::e5m2;

// barrier.sync, barrier.arrive, elect.sync; `aligned` instructions that need no more than all lanes together.
void bar_sync(unsigned id, unsigned threads);
void bar_arrive(unsigned id, unsigned threads);
bool elect_sync(unsigned mask);
void aligned(const char* name);

// griddepcontrol.wait and .launch_dependents
void grid_wait();
void grid_launch_dependents();

// ld.acquire and st.release, at the scope of the GPU
uint32_t load_acquire(const uint32_t* p);
void store_release(uint32_t* p, uint32_t value);

// ld.global and st.global of vectors, which the compiler takes apart: that they lie at a multiple of their size
void check_alignment(const void* p, size_t bytes);

// mma.sync: d += a * b'; ldmatrix and stmatrix of 8 x 8 matrices of 16 bits
void mma_sync(Element a_type, Element b_type, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void ldmatrix(uint32_t* r, int matrices, uint32_t address, bool transpose);
void stmatrix(uint32_t address, const uint32_t* r, int matrices, bool transpose = false);

// cp.async: 4, 8 or 16 bytes; zeros when not valid
void cp_async(uint32_t to, const void* from, unsigned bytes, bool valid);
void cp_async_commit();
void cp_async_wait(unsigned groups_left);
void cp_async_wait_all();

// mbarrier: the state lives in its 64-bit word in shared memory, as on the device
void mbarrier_init(uint32_t address, unsigned count);
void mbarrier_arrive(uint32_t address, unsigned expect_bytes = 0);
bool mbarrier_try_wait(uint32_t address, unsigned parity);

// A 2-D tensor in global memory and the box that one copy moves; stands for CUtensorMap.
struct TensorMap {
  void* base;
  uint64_t columns, rows, pitch_bytes;
  uint32_t box_columns, box_rows, element_bytes;
  bool swizzle_128b;
};
void tma_load(uint32_t to, const TensorMap&, int column, int row, uint32_t mbarrier, uint16_t cluster_mask = 0);
void tma_store(const TensorMap&, int column, int row, uint32_t from);
void bulk_load(uint32_t to, const void* from, unsigned bytes, uint32_t mbarrier);
void bulk_commit();
void bulk_wait(unsigned groups_left);
void bulk_wait_read(unsigned groups_left);
void fence_proxy_async();

// wgmma: D[64][n] (+)= A[64][k] * B[n][k]', k = 32 bytes. A from registers when a_registers is given.
struct Wgmma {
  Element a_type, b_type;
  int n;
  uint64_t a, b;
  bool accumulate, a_mn_major, b_mn_major;
  bool operator==(const Wgmma&) const = default;
};
void wgmma(const Wgmma&, float* d, const uint32_t* a_registers = nullptr);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(unsigned groups_left);

// Clusters
unsigned cluster_rank();
uint32_t mapa(uint32_t address, unsigned rank);
void cluster_arrive();
void cluster_wait();

}  // namespace simt
