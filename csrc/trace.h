// When ops ran, for a time line.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

namespace nemotron_h {

// Nanoseconds of the steady clock, on Linux CLOCK_MONOTONIC, which process.hrtime() in JavaScript counts too.
inline int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Span {
  const char* op;  // its name in JavaScript; lives as long as the process
  int64_t begin, end;
};

struct Trace {
  std::vector<Span> ran;       // on the device
  std::vector<Span> launched;  // by its thread, where that is another time
};

}  // namespace nemotron_h
