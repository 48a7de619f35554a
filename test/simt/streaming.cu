// The weight-streaming product on clusters enough for every way to share a tile, more than the emulated GPU has.
#include "check.h"
#include "cuda/gemm/streaming/kernel.cuh"

using namespace nemotron_h;
using namespace nemotron_h::cuda;
using namespace nemotron_h::cuda::gemm;
using check::Array;

namespace {

// Sums of whole numbers, which are exact. x has more rows in memory than the product is told of, and y more elements.
template <class X, class W, int kTokens>
std::string product(int M, int N, int K, int workers, int repeats = 1) {
  using Weight = std::conditional_t<std::is_same_v<W, uint8_t>, e5m2, W>;
  auto x = check::integers<X>(size_t(M) * K, 8, 3);
  const auto weight = check::integers<Weight>(size_t(N) * K, 9, 2);
  const auto want = check::product(x, weight, M, N, K);
  x.resize(size_t(M + 5) * K, from_float<X>(100));

  const auto work = streaming::split(N, int64_t{K} * sizeof(W), workers * streaming::kBlocks);
  const int slabs = work.tiles * streaming::kSlabs;
  Array<X> dx(x);
  Array<Weight> dw(weight);
  Array<float> y(std::vector<float>(size_t(M) * N + 8, -1)), parts(streaming::kTileRows * kTokens * work.parts());
  Array<unsigned> tickets(std::vector<unsigned>(slabs, 0));
  Output to{.data = static_cast<float*>(y), .M = M, .N = N, .f32 = true, .packed = N % 8 == 0};
  std::string wrong;
  for (int i = 0; i < repeats && wrong.empty(); i++) {
    check::launch(streaming::kernel<X, W, kTokens>,
                  {.grid = unsigned(work.workers() * streaming::kBlocks), .block = streaming::kThreads,
                   .smem = sizeof(streaming::Shared<X, W, kTokens>), .cluster = streaming::kBlocks},
                  check::tensor_map<Weight>(dw, N, K, streaming::kBlockRows, 128 / sizeof(W)),
                  check::tensor_map<X>(dx, M, K, kTokens / 2, 128 / sizeof(X)), work, widening(DType::e5m2),
                  reinterpret_cast<float4*>(static_cast<float*>(parts)), static_cast<unsigned*>(tickets), to);
    wrong = check::compare(y.values(), [&](size_t i) { return i < want.size() ? want[i] : -1; }) +
            check::compare(tickets.values(), [](size_t) { return 0; });
  }
  return wrong;
}

}  // namespace

// A tile of one worker, and of two, three and five.
CHECK(streaming_alone) { return product<bf16, bf16, 16>(1, 24, 40, 1); }
CHECK(streaming_alone_50) { return product<e4m3, e4m3, 64>(50, 24, 128, 1); }
CHECK(streaming_two) { return product<bf16, bf16, 16>(3, 256, 5 * 64, 2); }
CHECK(streaming_three) { return product<bf16, bf16, 16>(16, 130, 7 * 64 + 8, 3); }
CHECK(streaming_five) { return product<e4m3, e4m3, 16>(7, 72, 10 * 128, 5, 2); }
// Workers with parts of three tiles; rounds of the ring, and one stage more.
CHECK(streaming_many_tiles) { return product<bf16, bf16, 16>(2, 1700, 3 * 64, 3); }
CHECK(streaming_ring) { return product<bf16, bf16, 16>(2, 40, 25 * 64, 1); }
CHECK(streaming_ring_of_few) { return product<bf16, uint8_t, 128>(2, 40, 9 * 128, 1); }
// All tokens that there are stages for, and one more than a group of 16.
CHECK(streaming_64) { return product<e4m3, e4m3, 64>(64, 144, 5 * 128 + 16, 2); }
CHECK(streaming_65) { return product<bf16, bf16, 128>(65, 136, 4 * 64, 3); }
CHECK(streaming_128) { return product<e4m3, e4m3, 128>(128, 50, 3 * 128, 2); }
CHECK(streaming_widened_17) { return product<bf16, uint8_t, 64>(17, 264, 3 * 128 + 64, 2); }
CHECK(streaming_widened_127) { return product<bf16, uint8_t, 128>(127, 33, 256, 2); }
