// Names for reports: of kernels, lines and places.
#pragma once

#include <string>

namespace simt {

std::string name_of_kernel(const void* kernel);
// "csrc/cuda/norms.cu:31" of the innermost of these return addresses that is in a .cu file; "" if none is known.
std::string line_of(void* const* trace, int count);
std::string place_in_global(const void* p);  // "byte 12 of 4096 at 0x..."

}  // namespace simt
