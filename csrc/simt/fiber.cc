#include "simt/fiber.h"

#include <sys/mman.h>

#include <new>

#include "simt/asan.h"

#ifndef __x86_64__
#error "csrc/simt switches stacks on x86-64 only"
#endif

namespace simt {

extern "C" void simt_switch(void** save, void* load);
constexpr int kEntry = 6, kFrame = 8;  // words: the registers, the address to return to, and one for the alignment
asm(R"(
  .text
  .globl simt_switch
  .hidden simt_switch
  .type simt_switch, @function
simt_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
  .size simt_switch, . - simt_switch
)");

char* new_stack() {
  constexpr size_t kPage = 4096;
  void* p = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED || mprotect(p, kPage, PROT_NONE)) throw std::bad_alloc();
  return static_cast<char*>(p) + kPage;
}

void start(Fiber& fiber, char* stack, unsigned number, void (*entry)()) {
  ASAN_UNPOISON_MEMORY_REGION(stack, kStackBytes);  // an abandoned fiber leaves its frames' redzones behind
  fiber.stack = stack;
  fiber.bytes = kStackBytes;
  // At entry the stack pointer is 8 off a multiple of 16, as after a call; the word there would be the return
  // address.
  void** frame = reinterpret_cast<void**>(stack + kStackBytes - 16 - number % 32 * 192) - kFrame;
  for (int i = 0; i < kFrame; ++i) frame[i] = nullptr;
  frame[kEntry] = reinterpret_cast<void*>(entry);
  fiber.stack_pointer = frame;
}

void begin([[maybe_unused]] Fiber& from) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &from.stack, &from.bytes);
#endif
}

void switch_to(Fiber& from, Fiber& to) {
#ifdef __SANITIZE_ADDRESS__
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, to.stack, to.bytes);
#endif
  simt_switch(&from.stack_pointer, to.stack_pointer);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

}  // namespace simt
