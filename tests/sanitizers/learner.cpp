// The native loop without torch, for AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer. Each setting is
// learned for a few steps, on one thread and on several threads. If bits differ, a step allocates memory or a loss is
// not finite, the program prints it and exits with 1.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "../../csrc/cpu/affine_chain.h"
#include "../../csrc/cpu/clamped_squared_error.h"
#include "../../csrc/cpu/draw_balanced_index.h"
#include "../../csrc/cpu/fixed_point.h"
#include "../../csrc/cpu/flush_subnormals.h"
#include "../../csrc/cpu/learner.h"
#include "../../csrc/cpu/optimizers.h"
#include "../../csrc/cpu/partial_sums.h"
#include "../../csrc/cpu/raster.h"
#include "../../csrc/cpu/viewport.h"
#include "../../csrc/svd_matrix.h"

#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "affine_chain_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"
#define FRACTALOPS_KERNEL "draw_balanced_index_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"
#define FRACTALOPS_KERNEL "rbf_rasterize_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"
#define FRACTALOPS_KERNEL "learner_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"

#include "checks.h"

using namespace fractalops::cpu;

namespace {
std::atomic<int64_t> allocations{0};
}

void* operator new(size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void* operator new(size_t size, std::align_val_t alignment) {
  ++allocations;
  const size_t multiple = static_cast<size_t>(alignment);
  if (void* memory = std::aligned_alloc(multiple, (size + multiple - 1) / multiple * multiple)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

template <typename Index, typename Number>
struct Pictures {
  const LearningSettings& settings;
  const int64_t count = 5, width, steps;
  std::vector<float> targets, rows, first, second, losses;  // (S, C, H, W), (S, P), (S, P), (S, P), (steps, S)
  std::vector<Number> uniform;                              // (S, steps, K, T)
  std::vector<double> rates;                                // (steps)

  Pictures(const LearningSettings& s, int64_t steps)
      : settings(s),
        width(ParameterRow(s).count),
        steps(steps),
        first(count * width),
        second(count * width),
        losses(steps * count),
        rates(steps, 0.05) {
    std::mt19937 generator(0);
    const auto number = [&] { return static_cast<float>(generator() >> 8) / (1 << 24); };
    for (int64_t i = 0; i < count * s.pixels(); ++i) targets.push_back(number());
    for (int64_t i = 0; i < count * width; ++i) rows.push_back(number() - 0.5f);
    for (int64_t i = 0; i < count * steps * s.sequences * s.points; ++i) uniform.push_back(number());
  }

  void learn(int64_t begin, int64_t end) {
    const LearningBatch<Index, Number> batch{
        count,          width,   targets.data(), rows.data(), first.data(), settings.adam ? second.data() : nullptr,
        uniform.data(), nullptr, rates.data(),   0,           steps};
    FRACTALOPS_SELECT(learn_pictures<Index, Number>)(settings, batch, begin, end, losses.data());
  }
};

template <typename Index, typename Number>
void run(const char* name, const LearningSettings& s) {
  Pictures<Index, Number> alone(s, 7), together(s, 7);
  alone.learn(0, alone.count);
  std::vector<std::thread> threads;
  for (int64_t picture = 0; picture < together.count; ++picture)
    threads.emplace_back([&together, picture] { together.learn(picture, picture + 1); });
  for (std::thread& thread : threads) thread.join();
  check(alone.rows == together.rows && alone.losses == together.losses, name, "bits differ by threads");
  for (float loss : alone.losses) check(std::isfinite(loss), name, "a loss is not finite");

  int64_t made[2];  // allocations of two calls: with one step and with three
  for (int which : {0, 1}) {
    Pictures<Index, Number> pictures(s, which == 0 ? 1 : 3);
    const int64_t before = allocations;
    pictures.learn(0, 1);
    made[which] = allocations - before;
  }
  check(made[0] == made[1], name, "a step allocates memory");
}

}  // namespace

int main() {
  const LearningSettings defaults{.maps = 10,
                                  .sequences = 5,
                                  .points = 63,
                                  .channels = 0,
                                  .height = 16,
                                  .width = 16,
                                  .low = {-2.5, -2.5},
                                  .high = {2.5, 2.5},
                                  .bandwidth = 1.0,
                                  .cutoff = 1e-6,
                                  .probability_floor = 1e-3,
                                  .gradient_clip = 1.0,
                                  .momentum = 0.9,
                                  .factors = true,
                                  .clamped_values = false,
                                  .learned = true,
                                  .balanced = true,
                                  .clamped_image = true,
                                  .adam = true};
  const auto changed = [&](auto change) {
    LearningSettings settings = defaults;
    change(settings);
    return settings;
  };
  using Settings = LearningSettings;
  run<uint8_t, float>("defaults", defaults);
  run<uint8_t, float>("sgd", changed([](Settings& s) { s.adam = false; }));
  run<uint8_t, float>("no clip", changed([](Settings& s) { s.gradient_clip = INFINITY; }));
  run<uint8_t, float>("matrices", changed([](Settings& s) { s.factors = s.learned = false; }));
  run<uint8_t, float>("clamped values", changed([](Settings& s) { s.clamped_values = true, s.learned = false; }));
  run<uint8_t, float>("independent", changed([](Settings& s) { s.balanced = false; }));
  run<uint8_t, float>("no clamp", changed([](Settings& s) { s.clamped_image = false; }));
  run<uint8_t, float>("color", changed([](Settings& s) { s.channels = 3; }));
  run<uint8_t, float>("color, determinant", changed([](Settings& s) { s.channels = 3, s.learned = false; }));
  run<uint8_t, float>("no cutoff", changed([](Settings& s) { s.cutoff = 0; }));
  run<uint8_t, float>("wide bumps", changed([](Settings& s) { s.bandwidth = 30; }));
  run<uint8_t, float>("narrow bumps", changed([](Settings& s) { s.bandwidth = 0.1; }));
  run<uint8_t, float>("odd sizes", changed([](Settings& s) { s.height = 3, s.width = 37, s.points = 1; }));
  run<uint8_t, float>("small", changed([](Settings& s) { s.height = s.width = 2, s.maps = s.sequences = 1; }));
  run<uint8_t, float>("many points", changed([](Settings& s) { s.points = 5000, s.sequences = 1; }));
  run<uint8_t, float>("256 maps", changed([](Settings& s) { s.maps = 256; }));
  run<int32_t, double>("300 maps", changed([](Settings& s) { s.maps = 300; }));
  return report();
}
