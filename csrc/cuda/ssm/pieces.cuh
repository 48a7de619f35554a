// The packed sequences cut into pieces of bounded length, one for each block.
//
// How many pieces there are is known to the GPU only; how many there can be follows from the shapes. Sequence s takes
// the numbers from offsets[s] / length + spare * s on, so a block finds its piece by search, without a plan made
// before. The numbers that are left over are empty pieces.
#pragma once

#include "cuda/launch.cuh"

namespace nemotron_h::cuda {

// The numbers taken by all sequences: enough for L / length + spare pieces of a sequence of L tokens.
constexpr int64_t count_pieces(int64_t tokens, int64_t sequences, int64_t length, int64_t spare) {
  return tokens / length + spare * sequences;
}

struct Piece {
  int sequence;
  int64_t index;  // in the sequence
};

__device__ inline int64_t first_piece(const int32_t* offsets, int64_t s, int64_t length, int64_t spare) {
  return offsets[s] / length + spare * s;
}

// The piece with number i, offsets having been checked.
__device__ inline Piece find_piece(const int32_t* offsets, int sequences, int64_t i, int64_t length, int64_t spare) {
  int low = 0, high = sequences;  // first_piece(low) <= i < first_piece(high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (first_piece(offsets, middle, length, spare) <= i) low = middle;
    else high = middle;
  }
  return {low, i - first_piece(offsets, low, length, spare)};
}

// Where the state before token t goes too, by the rows (t, slot) of `saves`, whose t rise: -1 if nowhere.
__device__ inline int save_slot(const int32_t* saves, int rows, int64_t t) {
  int low = 0, high = rows;  // the first row that is not before t lies between
  while (low < high) {
    const int middle = (low + high) / 2;
    if (saves[2 * middle] < t) low = middle + 1;
    else high = middle;
  }
  return low < rows && saves[2 * low] == t ? saves[2 * low + 1] : -1;
}

}  // namespace nemotron_h::cuda
