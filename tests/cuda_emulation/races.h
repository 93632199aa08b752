// Annotations for ThreadSanitizer. With them, it finds races between CUDA threads in one run, in any order of the
// threads: each fiber counts as a thread, and only barriers order memory. As on the hardware, shuffles, votes and
// matches do not order memory. In other builds all of this is empty.
#pragma once

#include <cstdlib>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#define EMULATION_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EMULATION_TSAN 1
#endif
#endif

#ifdef EMULATION_TSAN
#include <sanitizer/tsan_interface.h>

#define EMULATION_UNWATCHED __attribute__((no_sanitize("thread")))

extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}

namespace emulation {

inline constexpr bool looking_for_races = true;

// During the lifetime of this object, reads and writes of its fiber are ignored. They are the bookkeeping, which all
// fibers share.
struct Unwatched {
  Unwatched() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unwatched() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};

// A fiber or the host, as a ThreadSanitizer fiber.
struct Watched {
  void* context;

  static Watched fiber() { return {__tsan_create_fiber(0)}; }
  static Watched running() { return {__tsan_get_current_fiber()}; }

  EMULATION_UNWATCHED void go_on() const { __tsan_switch_to_fiber(context, __tsan_switch_to_fiber_no_sync); }
};

// Orders all earlier reads and writes of these threads before all their later ones.
inline void order_memory(const std::vector<Watched>& threads) {
  const Watched self = Watched::running();
  void* meeting = std::malloc(1);  // a thread that releases it comes before a thread that acquires it
  for (const Watched& thread : threads) {
    thread.go_on();
    __tsan_release(meeting);
  }
  for (const Watched& thread : threads) {
    thread.go_on();
    __tsan_acquire(meeting);
  }
  self.go_on();
  std::free(meeting);
}

}  // namespace emulation
#else
#define EMULATION_UNWATCHED

namespace emulation {

inline constexpr bool looking_for_races = false;

struct Unwatched {
  Unwatched() {}  // avoids warnings of unused variables
};

struct Watched {
  static Watched fiber() { return {}; }
  static Watched running() { return {}; }
  void go_on() const {}
};

inline void order_memory(const std::vector<Watched>&) {}

}  // namespace emulation
#endif
