#include "cuda/kernels.h"

#include <atomic>

namespace nemotron_h::cuda {
namespace {

std::atomic<Kernels> setting = Kernels::measured;

}  // namespace

void use(Kernels kernels) { setting = kernels; }

Kernels kernels() { return setting; }

}  // namespace nemotron_h::cuda
