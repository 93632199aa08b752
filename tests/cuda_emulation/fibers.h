// Fibers: functions with their own stacks that take turns on one host thread. A fiber runs until it suspends itself.
// The host can then resume any fiber. The sanitizers are notified of every switch.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

#include "races.h"

#if defined(__SANITIZE_ADDRESS__)
#define EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATION_ASAN 1
#endif
#endif

#ifdef EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the callee-saved registers on the stack and the stack pointer in *saved. Then continues with the stack at
// `next`.
extern "C" __attribute__((visibility("hidden"))) void emulation_switch_stack(void** saved, void* next);

#ifdef __x86_64__
asm(R"(
  .text
  .weak emulation_switch_stack
  .hidden emulation_switch_stack
  .type emulation_switch_stack, @function
emulation_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size emulation_switch_stack, . - emulation_switch_stack
)");
#else
#error "the CUDA emulation switches stacks with x86-64 assembly; add the code of this architecture here"
#endif

namespace emulation {

// The stack of the host thread that resumes fibers. Fibers return to it.
struct Host {
  void* pointer = nullptr;       // stack pointer while a fiber runs
  const void* bottom = nullptr;  // the stack's bounds and shadow, for AddressSanitizer
  size_t size = 0;
  void* shadow = nullptr;
  Watched watched = {};
};
inline Host host;

class Fiber {
 public:
  const Watched watched = Watched::fiber();

  explicit Fiber(int number) {
    void* memory = mmap(nullptr, guard + size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mprotect(memory, guard, PROT_NONE);  // a stack overflow stops here
    bottom_ = static_cast<unsigned char*>(memory) + guard;
    // Stacks that all started at the end of a page would share a few lines of the cache.
    top_ = bottom_ + size - (number % 32 + 1) * 128;
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber() { munmap(bottom_ - guard, guard + size); }

  // The next resume calls `entry`. It must never return, and must end with finish().
  void start(void (*entry)()) {
    void** stack = reinterpret_cast<void**>(top_);
    *--stack = nullptr;  // return address of `entry`: backtraces end here
    *--stack = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--stack = nullptr;  // registers that the first switch restores
    pointer_ = stack;
  }

  EMULATION_UNWATCHED void resume() {
    host.watched = Watched::running();
    watched.go_on();
#ifdef EMULATION_ASAN
    __sanitizer_start_switch_fiber(&host.shadow, bottom_, size);
#endif
    emulation_switch_stack(&host.pointer, pointer_);
#ifdef EMULATION_ASAN
    __sanitizer_finish_switch_fiber(host.shadow, nullptr, nullptr);
#endif
  }

  // The following functions must be called on the fiber itself.
  EMULATION_UNWATCHED void suspend() {
    host.watched.go_on();
#ifdef EMULATION_ASAN
    __sanitizer_start_switch_fiber(&shadow_, host.bottom, host.size);
#endif
    emulation_switch_stack(&pointer_, host.pointer);
#ifdef EMULATION_ASAN
    __sanitizer_finish_switch_fiber(shadow_, &host.bottom, &host.size);
#endif
  }

  // Must be the first call in `entry`.
  static void started() {
#ifdef EMULATION_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &host.bottom, &host.size);
#endif
  }

  [[noreturn]] EMULATION_UNWATCHED void finish() {
    host.watched.go_on();
#ifdef EMULATION_ASAN
    __sanitizer_start_switch_fiber(nullptr, host.bottom, host.size);
#endif
    emulation_switch_stack(&pointer_, host.pointer);
    __builtin_unreachable();
  }

  // Called by the host instead of resume: discards the fiber's stack frames.
  void abandon() {
#ifdef EMULATION_ASAN
    __asan_unpoison_memory_region(bottom_, size);
#endif
  }

 private:
  static constexpr size_t guard = 64 * 1024, size = 256 * 1024;  // only pages that are touched take memory
  unsigned char* bottom_;
  unsigned char* top_;
  void* pointer_ = nullptr;
  void* shadow_ = nullptr;
};

}  // namespace emulation
