#include "cuda/kernels.h"

#include <atomic>

namespace nemotron_h::cuda {
namespace {

std::atomic<Kernels> chosen = Kernels::measured;
std::atomic<bool> overlapping = true;

}  // namespace

void use(Kernels kernels) { chosen = kernels; }
Kernels kernels() { return chosen; }

void use_overlap(bool on) { overlapping = on; }
bool overlaps() { return overlapping; }

}  // namespace nemotron_h::cuda
