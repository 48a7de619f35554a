// What the fused scan is given, and how it is cut: into items, a head of a sequence or of a segment of one, and these
// into chunks. All parts of a block walk the same items and chunks.
#pragma once

#include "cuda/ssm/pieces.cuh"
#include "cuda/ssm/state_pool.cuh"
#include "tensor.h"

namespace nemotron_h::cuda::ssm::hopper {

inline constexpr int kChunk = 128;  // tokens of a tile, and the longest chunk

struct Scan {
  Rows<const bf16> dt, z;  // [T,H], [T,H,P]; z.data is null where there is no gate
  const float *A, *D, *dt_bias;  // [H]
  float dt_min, dt_max;
  const int32_t *offsets, *past, *slots, *saves;  // [S+1], [S], [S], [E,2]
  StatePool state;                                // [Slots,H,P,N]
  Rows<bf16> y;                                   // [T,H,P]
  int S, H, G, E;
  unsigned chunk, segment;  // tokens; segment is 0 where sequences are whole
  int pieces;          // sequences, or as many segments as there can be
  // Of segments: the state before each [pieces,H,P,N], until it is known that which it leaves of its own; and how much
  // is left of a state after it [pieces,H].
  float *before, *decay;
  Faults faults;
};

// Positions begin to end of sequence s; `token` is the first in the batch.
struct Item {
  int s, h, piece, token;
  unsigned begin, end;
  bool last;    // of the sequence
  bool passed;  // the state that it leaves goes where it must before it is scanned: a segment that ends where all do
};

// f(item) for the items of this block: of `cluster` blocks in turn each takes the next head. States are only wanted of
// segments that end where all do.
template <bool kStatesOnly, class F>
__device__ void for_items(const Scan& scan, int cluster, int rank, F f) {
  const int heads = scan.H / cluster;
  for (int i = blockIdx.x / cluster; i < scan.pieces * heads; i += gridDim.x / cluster) {
    const int piece = i / heads, h = i % heads * cluster + rank;
    const Piece at = scan.segment ? find_piece(scan.offsets, scan.S, piece, scan.segment, 2) : Piece{piece, 0};
    const int s = at.sequence, first = scan.offsets[s];
    const unsigned past = scan.past[s], end = past + scan.offsets[s + 1] - first;
    unsigned from = past, to = end;
    bool passed = false;
    if (scan.segment) {
      const unsigned boundary = (past / scan.segment + static_cast<unsigned>(at.index)) * scan.segment;
      from = max(boundary, past), to = min(boundary + scan.segment, end);
      passed = to % scan.segment == 0;
      if (from >= to || (kStatesOnly && !passed)) continue;
    }
    f(Item{s, h, piece, static_cast<int>(first + from - past), from, to, to == end, passed});
  }
}

// f(first token, tokens, whether it is the item's last) for the chunks of an item.
template <class F>
__device__ void for_chunks(const Scan& scan, const Item& item, F f) {
  for (unsigned at = item.begin, next; at < item.end; at = next) {
    next = min((at / scan.chunk + 1) * scan.chunk, item.end);
    f(item.token + static_cast<int>(at - item.begin), static_cast<int>(next - at), next == item.end);
  }
}

// ---- on the host

struct Inputs {
  const Tensor &x, &B, &C;  // [T,H*P], [T,G*N]: as TMA can read them
  Scan scan;
};

// Of P and N; each is a file.
void run_p32_n128(const Inputs&);
void run_p64_n64(const Inputs&);
void run_p64_n128(const Inputs&);
void run_p64_n256(const Inputs&);
void run_p80_n128(const Inputs&);

// Between the two kernels of a scan in segments: from what each makes of a state of zero, the state before each.
void pass_states(const Scan&, int state_size);

}  // namespace nemotron_h::cuda::ssm::hopper
