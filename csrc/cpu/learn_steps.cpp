// learn_steps on the CPU: its registration, and pictures as tasks. The step is in learner.h.
#include <optional>

#include "../tensors.h"
#include "split_tasks.h"

#define FRACTALOPS_KERNEL "affine_chain_kernel.h"
#include "affine_chain.h"
#include "foreach_instruction_set.h"
#define FRACTALOPS_KERNEL "draw_balanced_index_kernel.h"
#include "draw_balanced_index.h"
#include "foreach_instruction_set.h"
#define FRACTALOPS_KERNEL "rbf_rasterize_kernel.h"
#include "raster.h"
#include "foreach_instruction_set.h"
#include "learner.h"

namespace fractalops::cpu {
namespace {

constexpr double point_time = 50;  // nanoseconds of a step

struct Steps {
  const Tensor& targets;                 // (S, C, H, W)
  Tensor& rows;                          // (S, P)
  Tensor& first;                         // (S, P)
  std::optional<Tensor>& second;         // (S, P)
  const std::optional<Tensor>& uniform;  // (S, steps, K, T)
  const std::optional<Tensor>& index;    // (S, K, T)
  const Tensor& rates;                   // (steps)
  int64_t number;                        // of the first step
};

template <typename Index, typename Number>
void learn(const LearningSettings& settings, const Steps& steps, Tensor& losses /* (steps, S) */) {
  const int64_t systems = steps.targets.size(0), count = steps.rates.size(0), width = steps.rows.size(1);
  const int64_t pixels = std::max<int64_t>(settings.channels, 1) * settings.height * settings.width;
  const int64_t draws = settings.sequences * settings.points;
  const float* targets = data<float>(steps.targets);
  float* rows = mutable_data<float>(steps.rows);
  float* first = mutable_data<float>(steps.first);
  float* second = steps.second ? mutable_data<float>(*steps.second) : nullptr;
  const Number* uniform = steps.uniform ? data<Number>(*steps.uniform) : nullptr;
  const Index* index = steps.index ? data<Index>(*steps.index) : nullptr;
  if (index != nullptr) check_inside("learn_steps", index, systems * draws, settings.maps);
  const double* rates = data<double>(steps.rates);
  float* out = mutable_data<float>(losses);
  split_tasks(systems, point_time * static_cast<double>(count * draws), [&](int64_t begin, int64_t end) {
    Learner<Index, Number> learner(settings);
    for (int64_t s = begin; s < end; ++s) {
      const LearnedPicture picture{targets + s * pixels, rows + s * width, first + s * width,
                                   second == nullptr ? nullptr : second + s * width};
      for (int64_t step = 0; step < count; ++step)
        out[step * systems + s] =
            learner.step(picture, uniform == nullptr ? nullptr : uniform + (s * count + step) * draws,
                         index == nullptr ? nullptr : index + s * draws, rates[step], steps.number + step);
    }
  });
}

void check_steps(const LearningSettings& s, const Steps& steps) {
  const int64_t systems = steps.targets.size(0), width = steps.rows.size(1), count = steps.rates.size(0);
  check_shape("learn_steps", "targets", steps.targets, {systems, std::max<int64_t>(s.channels, 1), s.height, s.width});
  STD_TORCH_CHECK(s.maps >= 1 && s.sequences >= 1 && s.points >= 1 && s.height >= 2 && s.width >= 2,
                  "learn_steps: settings must be positive, and sides above 1");
  STD_TORCH_CHECK(width >= ParameterRow(s).count, "learn_steps: rows must hold the system's parameters");
  check_shape("learn_steps", "rows", steps.rows, {systems, width});
  check_shape("learn_steps", "first", steps.first, {systems, width});
  STD_TORCH_CHECK(steps.second.has_value() == s.adam, "learn_steps: second must be there for Adam, and only for it");
  if (steps.second) check_shape("learn_steps", "second", *steps.second, {systems, width});
  STD_TORCH_CHECK(steps.uniform.has_value() != steps.index.has_value(),
                  "learn_steps: either uniform or index must be there");
  if (steps.uniform) check_shape("learn_steps", "uniform", *steps.uniform, {systems, count, s.sequences, s.points});
  if (steps.index) check_shape("learn_steps", "index", *steps.index, {systems, s.sequences, s.points});
  for (const Tensor* changed : {&steps.rows, &steps.first, steps.second ? &*steps.second : &steps.first})
    STD_TORCH_CHECK(changed->is_contiguous() && changed->scalar_type() == ScalarType::Float,
                    "learn_steps: what is changed in place must be contiguous and float32");
}

Tensor learn_steps(const Tensor& targets_in, Tensor rows, Tensor first, std::optional<Tensor> second,
                   std::optional<Tensor> uniform_in, std::optional<Tensor> index_in, const Tensor& rates_in,
                   int64_t number, int64_t maps, int64_t sequences, int64_t points, bool color, double x_min,
                   double y_min, double x_max, double y_max, double bandwidth, double cutoff, double probability_floor,
                   double gradient_clip, double momentum, bool factors, bool clamped_values, bool learned,
                   bool balanced, bool clamped_image) {
  const auto contiguous = [](const std::optional<Tensor>& tensor) {
    return tensor ? std::optional<Tensor>(torch::stable::contiguous(*tensor)) : std::nullopt;
  };
  const Tensor targets = torch::stable::contiguous(targets_in), rates = torch::stable::contiguous(rates_in);
  const std::optional<Tensor> uniform = contiguous(uniform_in), index = contiguous(index_in);
  STD_TORCH_CHECK(targets.dim() == 4, "learn_steps: targets must be (S, C, H, W)");
  const LearningSettings settings{.maps = maps,
                                  .sequences = sequences,
                                  .points = points,
                                  .channels = color ? targets.size(1) : 0,
                                  .height = targets.size(2),
                                  .width = targets.size(3),
                                  .low = {x_min, y_min},
                                  .high = {x_max, y_max},
                                  .bandwidth = bandwidth,
                                  .cutoff = cutoff,
                                  .probability_floor = probability_floor,
                                  .gradient_clip = gradient_clip,
                                  .momentum = momentum,
                                  .factors = factors,
                                  .clamped_values = clamped_values,
                                  .learned = learned,
                                  .balanced = balanced,
                                  .clamped_image = clamped_image,
                                  .adam = second.has_value()};
  const Steps steps{targets, rows, first, second, uniform, index, rates, number};
  check_steps(settings, steps);
  Tensor losses = torch::stable::new_empty(targets, {rates.size(0), targets.size(0)});  // (steps, S)
  if (maps <= 256)
    learn<uint8_t, float>(settings, steps, losses);
  else
    learn<int32_t, double>(settings, steps, losses);
  return losses;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) { library.impl("learn_steps", TORCH_BOX(&learn_steps)); }

}  // namespace fractalops::cpu
