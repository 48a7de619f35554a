// The packed batch and its paged cache, as the kernels of attention see them.
#pragma once

#include "cuda/batch.cuh"

namespace nemotron_h::cuda {

struct PagedBatch {
  const int32_t *offsets, *past, *pages;  // [S+1], [S], [S,MaxPages]
  int sequences, max_pages, page_size;

  __device__ int tokens(int s) const { return offsets[s + 1] - offsets[s]; }
  // The last sequence with first(s) <= i, where first rises and first(0) <= i.
  template <class First>
  __device__ int last_from(int64_t i, First first) const {
    int low = 0, high = sequences;  // first(low) <= i < first(high)
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (first(middle) <= i) low = middle;
      else high = middle;
    }
    return low;
  }
  __device__ int page(int s, int i) const { return pages[int64_t{s} * max_pages + i]; }
  // Of a position of sequence s in the pool, in tokens from the start of its first page.
  __device__ int64_t place(int s, int position) const {
    return int64_t{page(s, position / page_size)} * page_size + position % page_size;
  }
};

inline PagedBatch paged_batch(const Tensor& pages, const Tensor& offsets, const Tensor& past, const Tensor& cache) {
  return {offsets.as<int32_t>(),
          past.as<int32_t>(),
          pages.as<int32_t>(),
          static_cast<int>(past.size(0)),
          static_cast<int>(pages.size(1)),
          static_cast<int>(cache.size(1))};
}

// Every sequence that has new tokens has pages of the pool for them and its past.
void check_pages_read(const PagedBatch& batch, int64_t pool);
// Every sequence has pages of the pool for its new tokens, and no page is named twice there.
void check_pages_written(const PagedBatch& batch, int64_t pool);

}  // namespace nemotron_h::cuda
