// The threads inside an op: parallel_for cuts a range into pieces and the pool's threads, the caller
// among them, take piece after piece. One pool for the process, however many environments use it.
#pragma once

#include <cstdint>
#include <type_traits>

namespace nemotron_h::cpu {

int threads();
void set_threads(int count);  // at least 1; the number of cores to begin with

namespace detail {
void run(int64_t n, int64_t grain, void (*piece)(void* body, int64_t begin, int64_t end), void* body);
}

// Calls body(begin, end) for pieces of at most `grain` that together cover [0, n), in any order and on
// any of the threads; a range of one piece, or one inside another parallel_for, runs where it is. What a
// piece throws is thrown here.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  detail::run(n, grain, [](void* b, int64_t begin, int64_t end) { (*static_cast<std::remove_reference_t<Body>*>(b))(begin, end); },
              const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace nemotron_h::cpu
