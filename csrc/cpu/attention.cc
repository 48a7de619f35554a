// Attention over packed sequences and a paged cache of keys and values; kv_append fills the cache.
//
// The softmax runs online (Milakov and Gimelshein 2018) over blocks of kKeys keys that begin at multiples of
// kKeys. What a query reads, and in which order, depends on its position alone, so whole and chunked prefill,
// decode, any batch and any page size give the same bits.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "cpu/rope.h"
#include "ops.h"

namespace nemotron_h::cpu {
namespace {

constexpr int64_t kKeys = 64;  // their values and the scores of kRows queries are 48 KB at P = 128: within L2
constexpr int64_t kRows = 64;  // query heads of a piece of work, about

// Where the positions of one sequence lie in a cache[Pages,PageSize,G,P].
class PagedSequence {
 public:
  PagedSequence(const Tensor& pages, int64_t sequence, const Tensor& cache)
      : pages_(pages.row<int32_t>(sequence)),
        page_size_(cache.size(1)),
        place_size_(cache.size(2) * cache.size(3)) {}

  int64_t page(int64_t position) const { return pages_[position / page_size_]; }
  // In elements, from the page's first.
  int64_t offset(int64_t position) const { return position % page_size_ * place_size_; }
  // The first position past the page.
  int64_t page_end(int64_t position) const { return (position / page_size_ + 1) * page_size_; }

 private:
  const int32_t* pages_;
  int64_t page_size_, place_size_;
};

std::byte* address(const Tensor& t, int64_t i, int64_t first) {
  return static_cast<std::byte*>(t.row_address(i)) + first * size_of(t.dtype);
}

// Throws unless positions begin to end of sequence s have pages of the pool; adds those pages to `used`.
void check_pages(int64_t s, int64_t begin, int64_t end, const Tensor& pages, const Tensor& cache,
                 std::vector<int32_t>* used) {
  const int64_t pool = cache.size(0), page_size = cache.size(1), room = pages.size(1) * page_size;
  if (end > room)
    throw std::out_of_range("sequence " + std::to_string(s) + " is " + std::to_string(end) +
                            " tokens with its past, expected at most " + std::to_string(room) + ", " +
                            std::to_string(pages.size(1)) + " pages of " + std::to_string(page_size));
  if (begin == end) return;
  for (int64_t i = begin / page_size; i <= (end - 1) / page_size; ++i) {
    const int32_t page = pages.row<int32_t>(s)[i];
    if (page < 0 || page >= pool)
      throw std::out_of_range("pages[" + std::to_string(s) + "," + std::to_string(i) + "] is " +
                              std::to_string(page) + ", expected 0 to " + std::to_string(pool - 1));
    if (used) used->push_back(page);
  }
}

// Takes the next n scores and values into one query's softmax: `sum` is of the values so far, each times
// exp(score - maximum), and `total` of these weights. The scores become the weights.
void take_keys(float* scores, const float* const* values, int64_t n, int64_t P, float& maximum, float& total,
               float* sum) {
  const float larger = std::max(maximum, simd().max(scores, n));
  for (int64_t j = 0; j < n; ++j) scores[j] -= larger;
  simd().exp(scores, scores, n);

  const float kept = std::exp(maximum - larger);
  maximum = larger;
  total = total * kept + simd().sum(scores, n);
  simd().scale(kept, sum, sum, P);
  for (int64_t j = 0; j < n; ++j) simd().axpy(scores[j], values[j], sum, P);
}

// Some tokens of one sequence, and the position of the first.
struct Queries {
  int64_t sequence, begin, end, position;
};

struct Attention {
  const Tensor &q, &k_cache, &v_cache, &k_scale, &v_scale, &pages, &lse, &y;
  float scale;
  int64_t heads;  // of queries, that share a key head

  // All of the block's query heads that use key head g. Row t * heads + i is query head g * heads + i of its
  // token t.
  void operator()(const Queries& block, int64_t g) const {
    const int64_t P = q.size(2), place = k_cache.size(2) * P;
    const int64_t tokens = block.end - block.begin, rows = tokens * heads, first = g * heads * P;
    const Scratch queries(rows * P), sums(rows * P), maxima(rows), totals(rows);
    const Scratch scores(rows * kKeys), converted(kKeys * P);
    const float of_keys = k_scale ? scale * k_scale.as<float>()[g] : scale;
    const float of_values = v_scale ? v_scale.as<float>()[g] : 1;
    for (int64_t t = 0; t < tokens; ++t) {
      float* row = queries + t * heads * P;
      simd().scale(of_keys, load(q, block.begin + t, first, heads * P, row), row, heads * P);
    }
    std::fill_n(sums.data(), rows * P, 0.f);
    std::fill_n(totals.data(), rows, 0.f);
    std::fill_n(maxima.data(), rows, -std::numeric_limits<float>::infinity());

    const PagedSequence at(pages, block.sequence, k_cache);
    const int64_t length = block.position + tokens;
    for (int64_t key = 0; key < length; key += kKeys) {
      const int64_t keys = std::min(kKeys, length - key);
      const float* values[kKeys];
      for (int64_t j = 0, next; j < keys; j = next) {  // page by page
        next = std::min(keys, at.page_end(key + j) - key);
        const int64_t page = at.page(key + j), offset = at.offset(key + j) + g * P;
        simd().gemm({.M = rows, .N = next - j, .K = P, .x = queries, .ldx = P,
                     .w = address(k_cache, page, offset), .w_dtype = k_cache.dtype, .ldw = place,
                     .y = scores + j, .ldy = kKeys});
        for (int64_t i = j; i < next; ++i)
          values[i] = load(v_cache, page, offset + (i - j) * place, P, converted + i * P);
      }
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t visible = std::min(keys, block.position + r / heads + 1 - key);
        if (visible > 0)
          take_keys(scores + r * kKeys, values, visible, P, maxima[r], totals[r], sums + r * P);
      }
    }

    for (int64_t r = 0; r < rows; ++r) {
      simd().scale(of_values / totals[r], sums + r * P, sums + r * P, P);
      if (lse) lse.row<float>(block.begin + r / heads)[g * heads + r % heads] = maxima[r] + std::log(totals[r]);
    }
    for (int64_t t = 0; t < tokens; ++t)
      store(y, block.begin + t, first, heads * P, sums + t * heads * P);
  }
};

}  // namespace

void kv_append(const Tensor& k, const Tensor& v, const Tensor& inv_freq, const Tensor& k_scale, const Tensor& v_scale,
               const Tensor& pages, const Tensor& offsets, const Tensor& past, const Tensor& k_cache,
               const Tensor& v_cache) {
  check_caches(k.dtype, k_cache, v_cache, k_scale, v_scale);
  if (inv_freq) check_rotation("k", k);
  const auto list = sequences(offsets, past, k.size(0));
  std::vector<int32_t> written;
  for (size_t s = 0; s < list.size(); ++s)
    check_pages(s, list[s].past, list[s].past + list[s].length(), pages, k_cache, &written);
  std::sort(written.begin(), written.end());
  const auto twice = std::adjacent_find(written.begin(), written.end());
  if (twice != written.end())
    throw std::out_of_range("pages names " + std::to_string(*twice) +
                            " twice, expected a page of its own wherever tokens are written");

  const int64_t G = k.size(1), P = k.size(2), width = k.row_size();
  for (size_t s = 0; s < list.size(); ++s) {
    const PagedSequence at(pages, s, k_cache);
    parallel_for(list[s].length(), grain(2 * width), [&](int64_t begin, int64_t end) {
      const Scratch values(width), rounded(width);
      std::optional<Rotation> rotation;
      if (inv_freq) rotation.emplace(inv_freq);
      const auto append = [&](const Tensor& x, const Tensor& scale, const Tensor& cache, int64_t i, bool rotates) {
        const int64_t token = list[s].begin + i, position = list[s].past + i;
        std::byte* to = address(cache, at.page(position), at.offset(position));
        if (!rotates && !scale) {
          std::memcpy(to, x.row_address(token), static_cast<size_t>(width) * size_of(x.dtype));
          return;
        }
        simd().load(x.dtype, x.row_address(token), values, width);
        if (rotates) {
          (*rotation)(position, G, values);
          simd().store(x.dtype, values, rounded, width);  // as rope leaves it
          simd().load(x.dtype, rounded, values, width);
        }
        for (int64_t g = 0; scale && g < G; ++g)
          simd().scale(1 / scale.as<float>()[g], values + g * P, values + g * P, P);
        simd().store(cache.dtype, values, to, width);
      };
      for (int64_t i = begin; i < end; ++i) {
        append(k, k_scale, k_cache, i, bool(inv_freq));
        append(v, v_scale, v_cache, i, false);
      }
    });
  }
}

void attention(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache, const Tensor& k_scale,
               const Tensor& v_scale, const Tensor& pages, const Tensor& offsets, const Tensor& past, float scale,
               bool /*decode*/, const Tensor& lse, const Tensor& y) {
  check_heads(q, k_cache);
  check_caches(q.dtype, k_cache, v_cache, k_scale, v_scale);
  const int64_t H = q.size(1), P = q.size(2), G = k_cache.size(2);
  const Attention attend{q, k_cache, v_cache, k_scale, v_scale, pages, lse, y, scale, H / G};

  const auto list = sequences(offsets, past, q.size(0));
  const int64_t step = std::max<int64_t>(1, kRows / std::max<int64_t>(1, attend.heads));
  std::vector<Queries> blocks;
  int64_t longest = 0;
  for (size_t s = 0; s < list.size(); ++s) {
    const auto& [begin, end, before, slot] = list[s];
    if (begin == end) continue;
    const int64_t length = before + end - begin;
    check_pages(s, 0, length, pages, k_cache, nullptr);
    longest = std::max(longest, length);
    for (int64_t t = begin; t < end; t += step)
      blocks.push_back({static_cast<int64_t>(s), t, std::min(t + step, end), before + t - begin});
  }
  const int64_t pieces = static_cast<int64_t>(blocks.size()) * G;
  parallel_for(pieces, grain(2 * longest * P), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) attend(blocks[i / G], i % G);
  });
}

}  // namespace nemotron_h::cpu
