// cuBLASLt, if this machine has it: loaded when it is first wanted, and never unloaded.
#pragma once

#include <string>

namespace nemotron_h::cuda::gemm::cublaslt {

struct Library;

// The one that load() was given last, else the system's; null where there is none.
const Library* library();

// As library(), but throws what was tried where there is none.
const Library& needed();

// Takes the library of that path from now on. Throws what is wrong with it.
void load(const std::string& path);

// "/usr/lib/x86_64-linux-gnu/libcublasLt.so.13, version 13.1.1", or empty.
std::string found();

}  // namespace nemotron_h::cuda::gemm::cublaslt
