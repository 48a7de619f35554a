// Elements as the tensor core reads them.
#pragma once

#include <cstring>

#include "simt/instructions.h"

namespace simt {

constexpr int bytes_of(Element e) { return e == Element::bf16 ? 2 : 1; }
// `count` elements, one after another, as f32.
void widen(Element e, const void* from, int count, float* to);

}  // namespace simt
