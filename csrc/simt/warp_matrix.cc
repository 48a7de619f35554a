// mma.sync, ldmatrix and stmatrix: what the 32 lanes of a warp do with their fragments.
#include <array>

#include "simt/machine.h"
#include "simt/tensor_core.h"

namespace simt {

void widen(Element e, const void* from, int count, float* to) {
  const auto table = [](auto convert) {
    std::array<float, 256> values;
    for (int i = 0; i < 256; i++) values[i] = convert(uint8_t(i));
    return values;
  };
  static const auto e4m3 = table([](uint8_t v) { return nemotron_h::to_float(nemotron_h::e4m3{v}); });
  static const auto e5m2 = table([](uint8_t v) { return nemotron_h::to_float(nemotron_h::e5m2{v}); });
  const auto* bytes = static_cast<const uint8_t*>(from);
  for (int i = 0; i < count; i++) {
    if (e == Element::bf16) to[i] = bits<float>(uint32_t(bytes[2 * i] | bytes[2 * i + 1] << 8) << 16);
    else to[i] = (e == Element::e4m3 ? e4m3 : e5m2)[bytes[i]];
  }
}

// Fragments count in bytes, so that one description serves bf16 (k16) and fp8 (k32): a lane holds the
// 4 bytes at row lane/4, byte 4*(lane%4); register 1 is 8 rows further, 2 and 3 are 16 bytes further.
void mma_sync(Element a_type, Element b_type, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Record {
    float* d;
    const uint32_t *a, *b;
  } mine{d, a, b};
  if (here().warps[running->id / 32].lanes != ~0u) fail("mma.sync in a warp that is not whole");
  collective(~0u, "mma.sync", &mine, [=](Lanes& lanes) {
    float A[16][32], B[32][8], D[16][8];
    const int k = 32 / bytes_of(a_type), per_word = 4 / bytes_of(a_type);
    for (int lane = 0; lane < 32; lane++) {
      const auto& r = *static_cast<Record*>(lanes[lane]);
      const int row = lane / 4, at = lane % 4 * per_word, column = lane % 4 * 2;
      for (int half = 0; half < 2; half++) {
        const int first = at + half * k / 2;
        float b_values[4];
        widen(a_type, &r.a[2 * half], per_word, &A[row][first]);
        widen(a_type, &r.a[2 * half + 1], per_word, &A[row + 8][first]);
        widen(b_type, &r.b[half], per_word, b_values);
        for (int i = 0; i < per_word; i++) B[first + i][row] = b_values[i];
      }
      for (int i = 0; i < 4; i++) D[row + i / 2 * 8][column + i % 2] = r.d[i];
    }
    for (int m = 0; m < 16; m++)
      for (int i = 0; i < k; i++)
        for (int n = 0; n < 8; n++) D[m][n] += A[m][i] * B[i][n];
    for (int lane = 0; lane < 32; lane++)
      for (int i = 0; i < 4; i++)
        static_cast<Record*>(lanes[lane])->d[i] = D[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  });
}

namespace {

// 8x8 matrices of 16-bit values: lane l brings the address of row l%8 of matrix l/8, and holds
// elements (l/4, l%4*2) and (l/4, l%4*2+1) of each; with `transpose` row and column change places.
struct MatrixRecord {
  uint32_t pos;
  uint32_t* registers;
};

uint16_t& matrix_element(const Lanes& lanes, int matrix, int lane, int i, bool transpose) {
  int row = lane / 4, column = lane % 4 * 2 + i;
  if (transpose) std::swap(row, column);
  return current->shared.at<uint16_t>(static_cast<MatrixRecord*>(lanes[matrix * 8 + row])->pos + column * 2);
}

// Lanes beyond the last matrix bring addresses that are not used.
uint32_t row_position(const char* name, uint32_t address, int matrices, Access access) {
  if (int(lane_id()) >= matrices * 8) return 0;
  const uint32_t pos = position(address, 16, name, 16);
  on_shared(pos, 16, access);
  return pos;
}

}  // namespace

void ldmatrix(uint32_t* r, int matrices, uint32_t address, bool transpose) {
  MatrixRecord mine{row_position("ldmatrix", address, matrices, Access::read), r};
  collective(~0u, "ldmatrix", &mine, [=](Lanes& lanes) {
    for (int lane = 0; lane < 32; lane++)
      for (int m = 0; m < matrices; m++)
        static_cast<MatrixRecord*>(lanes[lane])->registers[m] =
            matrix_element(lanes, m, lane, 0, transpose) | matrix_element(lanes, m, lane, 1, transpose) << 16;
  });
}

void stmatrix(uint32_t address, const uint32_t* r, int matrices, bool transpose) {
  MatrixRecord mine{row_position("stmatrix", address, matrices, Access::write), const_cast<uint32_t*>(r)};
  collective(~0u, "stmatrix", &mine, [=](Lanes& lanes) {
    for (int lane = 0; lane < 32; lane++) {
      const uint32_t* const registers = static_cast<MatrixRecord*>(lanes[lane])->registers;
      for (int m = 0; m < matrices; m++)
        for (int i = 0; i < 2; i++) matrix_element(lanes, m, lane, i, transpose) = registers[m] >> 16 * i;
    }
  });
}

}  // namespace simt
