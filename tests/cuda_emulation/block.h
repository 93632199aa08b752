// One block of CUDA threads on the CPU. Each thread is a fiber. It runs until it waits for other threads: at a warp
// operation for the lanes of its mask, at __syncthreads for the whole block. The last thread to arrive exchanges the
// values and makes all of them runnable again. Behavior that CUDA leaves undefined ends the launch with an error.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "fibers.h"

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulation {

enum class Order { ascending, descending, random };

// The values that lanes exchange at a rendezvous. `barrier` is __syncthreads, and `nothing` is __syncwarp.
enum class Exchange { barrier, nothing, shuffle, ballot, match };

// The call at which a thread waits.
struct Call {
  Exchange exchange;
  const char* name;
  unsigned mask;   // lanes that must make the same call
  int source;      // lane from which a shuffle reads
  uint64_t value;  // this lane's value, later its result
  std::source_location site;
};

inline bool same_call(const Call& a, const Call& b) {
  return a.name == b.name && a.mask == b.mask && a.site.line() == b.site.line() && a.site.column() == b.site.column() &&
         std::strcmp(a.site.file_name(), b.site.file_name()) == 0;
}

struct Thread {
  explicit Thread(int number) : fiber(number), number(number) {}
  Fiber fiber;
  const int number;  // in its block; x varies fastest
  uint3 index = {};
  enum { runnable, waiting, exited } state = exited;
  Call call = {};

  int lane() const { return number % warpSize; }
};

struct Warp {
  unsigned lanes = 0;    // existing lanes: the last warp of a block may have fewer than 32
  unsigned waiting = 0;  // lanes that wait at a warp operation
};

inline std::string text(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}
inline std::string text(unsigned mask) {
  char digits[16];
  std::snprintf(digits, sizeof digits, "0x%08x", mask);
  return digits;
}
inline std::string text(const Call& call) {
  const std::string mask = call.exchange == Exchange::barrier ? "" : " with the mask " + text(call.mask);
  return std::string(call.name) + mask + " at " + call.site.file_name() + ":" + std::to_string(call.site.line());
}

class Block {
 public:
  std::string error;               // why the launch failed; empty if it did not fail
  Order order = Order::ascending;  // order in which runnable threads are taken
  std::mt19937 random;

  // Runs `kernel` once per thread of the block blockIdx. If it fails, returns false, and `error` has the reason.
  bool run(const std::function<void()>& kernel) {
    const Unwatched bookkeeping;
    begin(kernel);
    order_with_host();
    while (error.empty() && !runnable_.empty()) {
      running_ = take();
      threadIdx = running_->index;
      running_->fiber.resume();
    }
    if (error.empty() && exited_ < count_) error = why_stalled();
    order_with_host();
    if (error.empty()) return true;
    for (int i = 0; i < count_; ++i) threads_[i]->fiber.abandon();
    return false;
  }

  // Called by the running thread: waits until all lanes of the mask have made this call. Returns this lane's result.
  uint64_t meet_lanes(const Call& call) {
    const Unwatched bookkeeping;
    Thread& self = *running_;
    Warp& warp = warps_[self.number / warpSize];
    self.call = call;
    if (!(call.mask >> self.lane() & 1))
      fail("the calling lane " + std::to_string(self.lane()) + " is not in its mask");
    self.state = Thread::waiting;
    warp.waiting |= 1u << self.lane();
    // A mask, such as that of all lanes, may name lanes that do not exist. The hardware does not wait for them either.
    const unsigned lanes = call.mask & warp.lanes;
    if ((warp.waiting & lanes) == lanes) {
      exchange(lanes);
      if (call.exchange == Exchange::nothing) order_threads(self.number - self.lane(), warpSize, lanes);
      warp.waiting &= ~lanes;
      release(self.number - self.lane(), warpSize, lanes);
    }
    self.fiber.suspend();
    return self.call.value;
  }

  void meet_block(const Call& call) {
    const Unwatched bookkeeping;
    Thread& self = *running_;
    self.call = call;
    self.state = Thread::waiting;
    if (++at_barrier_ == count_) {
      for (int i = 0; i < count_; ++i)
        if (!same_call(threads_[i]->call, call)) fail(elsewhere(*threads_[i]));
      at_barrier_ = 0;
      order_threads(0, count_, ~0u);
      release(0, count_, ~0u);
    }
    self.fiber.suspend();
  }

  // Ends the launch with an error of the running thread in its current call.
  [[noreturn]] void fail(std::string what) {
    // `what` is moved, because objects on this fiber's stack are never destroyed.
    error = describe(*running_, std::string(std::move(what)));
    running_->fiber.suspend();
    __builtin_unreachable();  // it is never resumed
  }

  // Ends the launch with an error in a call that is not a rendezvous yet.
  [[noreturn]] void fail(const Call& call, std::string what) {
    running_->call = call;
    fail(std::move(what));
  }

  int lane() const { return running_->lane(); }

 private:
  void begin(const std::function<void()>& kernel) {
    kernel_ = &kernel;
    count_ = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    exited_ = at_barrier_ = 0;
    while (static_cast<int>(threads_.size()) < count_) threads_.push_back(std::make_unique<Thread>(threads_.size()));
    warps_.assign((count_ + warpSize - 1) / warpSize, {});
    for (int i = 0; i < count_; ++i) {
      Thread& thread = *threads_[i];
      thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
      thread.fiber.start(run_thread);
      warps_[i / warpSize].lanes |= 1u << thread.lane();
    }
    runnable_.clear();
    release(0, count_, ~0u);
  }

  static void run_thread();  // entry point of the fibers

  // Runnable threads are on a stack. So a warp runs as far as it can before the next warp starts, which makes a missing
  // barrier most visible.
  Thread* take() {
    if (order == Order::random) std::swap(runnable_.back(), runnable_[random() % runnable_.size()]);
    Thread* thread = runnable_.back();
    runnable_.pop_back();
    return thread;
  }

  // Makes threads runnable: those of first, first + 1, ... whose bit (modulo 32) is set in `lanes`.
  void release(int first, int count, unsigned lanes) {
    const bool descending = order == Order::descending;
    for (int i = 0; i < count; ++i) {
      const int offset = descending ? i : count - 1 - i;  // the last one pushed is the first one taken
      if (!(lanes >> offset % warpSize & 1)) continue;
      Thread* thread = threads_[first + offset].get();
      thread->state = Thread::runnable;
      runnable_.push_back(thread);
    }
  }

  // Orders memory like a barrier of the threads that `release` would make runnable.
  void order_threads(int first, int count, unsigned lanes) {
    if (!looking_for_races) return;
    std::vector<Watched> threads;
    for (int i = 0; i < count; ++i)
      if (lanes >> i % warpSize & 1) threads.push_back(threads_[first + i]->fiber.watched);
    order_memory(threads);
  }

  // Orders memory: the host's work before a launch comes before the threads' work, which comes before the host's later
  // work. The threads' work also comes after that of earlier blocks, because they used the same shared memory.
  void order_with_host() {
    if (!looking_for_races) return;
    std::vector<Watched> threads = {Watched::running()};
    for (int i = 0; i < count_; ++i) threads.push_back(threads_[i]->fiber.watched);
    order_memory(threads);
  }

  // Exchanges the values. All `lanes` wait, and the running thread arrived last.
  void exchange(unsigned lanes) {
    const Thread& self = *running_;
    const auto call_of = [&](int lane) -> Call& { return threads_[self.number - self.lane() + lane]->call; };
    uint64_t results[warpSize] = {};
    unsigned ballot = 0;
    for (int lane = 0; lane < warpSize; ++lane) {
      if (!(lanes >> lane & 1)) continue;
      const Call& call = call_of(lane);
      if (!same_call(call, self.call)) fail(elsewhere(*threads_[self.number - self.lane() + lane]));
      if (call.exchange == Exchange::shuffle) {
        if (!(lanes >> call.source & 1))
          fail("lane " + std::to_string(lane) + " reads from lane " + std::to_string(call.source) +
               ", which doesn't take part");
        results[lane] = call_of(call.source).value;
      } else if (call.exchange == Exchange::ballot) {
        ballot |= static_cast<unsigned>(call.value != 0) << lane;
      } else if (call.exchange == Exchange::match) {
        for (int other = 0; other < warpSize; ++other)
          if (lanes >> other & 1) results[lane] |= static_cast<uint64_t>(call_of(other).value == call.value) << other;
      }
    }
    for (int lane = 0; lane < warpSize; ++lane)
      if (lanes >> lane & 1) call_of(lane).value = self.call.exchange == Exchange::ballot ? ballot : results[lane];
  }

  std::string describe(const Thread& thread, const std::string& what) const {
    return "block " + text(blockIdx) + ", thread " + text(thread.index) + ": " + text(thread.call) + " in " +
           thread.call.site.function_name() + ": " + what;
  }

  // Returns what another thread does instead of the expected call.
  std::string elsewhere(const Thread& other) const {
    return "thread " + text(other.index) +
           (other.state == Thread::exited ? " has exited" : " is at " + text(other.call));
  }

  // Returns why no thread can run: names a thread that waits, and one that never arrives.
  std::string why_stalled() const {
    for (int i = 0; i < count_; ++i) {
      const Thread& thread = *threads_[i];
      if (thread.state != Thread::waiting || thread.call.exchange == Exchange::barrier) continue;
      for (int lane = 0; lane < warpSize; ++lane) {
        const int number = i - thread.lane() + lane;
        if (!(thread.call.mask >> lane & 1) || number >= count_) continue;
        const Thread& other = *threads_[number];
        if (other.state == Thread::exited || !same_call(other.call, thread.call))
          return describe(thread, "lane " + std::to_string(lane) + " of its mask never arrives: " + elsewhere(other));
      }
    }
    const auto find = [&](auto state) {
      return std::find_if(threads_.begin(), threads_.begin() + count_,
                          [&](auto& thread) { return thread->state == state; });
    };
    return describe(**find(Thread::waiting), "not all threads arrive: " + elsewhere(**find(Thread::exited)));
  }

  const std::function<void()>* kernel_ = nullptr;
  int count_ = 0, exited_ = 0, at_barrier_ = 0;   // numbers of threads
  std::vector<std::unique_ptr<Thread>> threads_;  // kept, with their stacks, for later blocks
  std::vector<Warp> warps_;
  std::vector<Thread*> runnable_;
  Thread* running_ = nullptr;
};

inline Block block;

// Not watched, because it never returns: ThreadSanitizer's own call stack would grow with each block.
EMULATION_UNWATCHED inline void Block::run_thread() {
  Fiber::started();
  (*block.kernel_)();
  block.running_->state = Thread::exited;
  ++block.exited_;
  block.running_->fiber.finish();
}

}  // namespace emulation
