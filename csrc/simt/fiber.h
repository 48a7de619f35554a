// A stack of its own for every CUDA thread, and switching between them.
//
// swapcontext() makes two system calls to save the signal mask, which nobody here changes. This saves the registers
// that a function call must preserve, and nothing else. AddressSanitizer is told of every switch.
#pragma once

#include <cstddef>

namespace simt {

inline constexpr size_t kStackBytes = 128 << 10;  // roomy: sanitizers make frames large; untouched pages cost nothing

struct Fiber {
  void* stack_pointer = nullptr;
  const void* stack = nullptr;  // its lowest address
  size_t bytes = 0;
};

// A new stack, with a page below it that faults.
char* new_stack();
// Makes the fiber begin in `entry` on this stack; `number` staggers the fibers, whose tops would share cache sets.
void start(Fiber& fiber, char* stack, unsigned number, void (*entry)());
// To be called first thing by `entry`: `from` is who switched here.
void begin(Fiber& from);
void switch_to(Fiber& from, Fiber& to);

}  // namespace simt
