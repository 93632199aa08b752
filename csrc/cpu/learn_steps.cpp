// learn_steps on the CPU: the op's checks and registration, with one task per picture. The step is in learner_kernel.h.
#include <cstring>
#include <limits>
#include <optional>

#include "../svd_matrix.h"
#include "../tensors.h"
#include "affine_chain.h"
#include "check_raster.h"
#include "clamped_squared_error.h"
#include "draw_balanced_index.h"
#include "fixed_point.h"
#include "flush_subnormals.h"
#include "learner.h"
#include "optimizers.h"
#include "partial_sums.h"
#include "raster.h"
#include "split_tasks.h"
#include "viewport.h"

#define FRACTALOPS_NARROW_KERNEL
#define FRACTALOPS_KERNEL "affine_chain_kernel.h"
#include "foreach_instruction_set.h"
#define FRACTALOPS_KERNEL "draw_balanced_index_kernel.h"
#include "foreach_instruction_set.h"
#define FRACTALOPS_KERNEL "rbf_rasterize_kernel.h"
#include "foreach_instruction_set.h"
#define FRACTALOPS_INSTANCE extern
#define FRACTALOPS_KERNEL "rbf_rasterize_instances.h"
#include "foreach_instruction_set.h"
#define FRACTALOPS_KERNEL "learner_kernel.h"
#include "foreach_instruction_set.h"

namespace fractalops::cpu {
namespace {

// Returns the nanoseconds of a step. Drawing and differentiating an image takes twice as long as drawing it. All other
// work takes 20 nanoseconds per point.
double step_time(const LearningSettings& s) {
  const Raster<float> raster(s.height, s.width, s.image_channels(), static_cast<float>(s.bandwidth), s.cutoff, 0,
                             s.height);
  return static_cast<double>(s.sequences) * (2 * image_time(raster, s.points) + 20 * static_cast<double>(s.points));
}

constexpr int64_t most_maps = std::numeric_limits<int32_t>::max();

struct Tensors {
  const Tensor& targets;                 // (S, C, H, W)
  Tensor& rows;                          // (S, P)
  Tensor& first;                         // (S, P)
  std::optional<Tensor>& second;         // (S, P)
  const std::optional<Tensor>& uniform;  // (S, steps, K, T)
  const std::optional<Tensor>& index;    // (S, K, T)
  const Tensor& rates;                   // (steps)
};

template <typename Index, typename Number>
void learn(const LearningSettings& settings, const Tensors& tensors, int64_t number, Tensor& losses /* (steps, S) */) {
  const int64_t draws = settings.sequences * settings.points;
  const LearningBatch<Index, Number> batch{.systems = tensors.rows.size(0),
                                           .width = tensors.rows.size(1),
                                           .targets = data<float>(tensors.targets),
                                           .rows = mutable_data<float>(tensors.rows),
                                           .first = mutable_data<float>(tensors.first),
                                           .second = tensors.second ? mutable_data<float>(*tensors.second) : nullptr,
                                           .uniform = tensors.uniform ? data<Number>(*tensors.uniform) : nullptr,
                                           .index = tensors.index ? data<Index>(*tensors.index) : nullptr,
                                           .rates = data<double>(tensors.rates),
                                           .number = number,
                                           .steps = tensors.rates.size(0)};
  if (batch.index != nullptr) check_inside("learn_steps", batch.index, batch.systems * draws, settings.maps);
  float* out = mutable_data<float>(losses);  // (steps, S)
  split_tasks(batch.systems, step_time(settings) * static_cast<double>(batch.steps), [&](int64_t begin, int64_t end) {
    FRACTALOPS_SELECT(learn_pictures<Index, Number>)(settings, batch, begin, end, out);
  });
}

void check_settings(const LearningSettings& s, const Tensors& tensors) {
  STD_TORCH_CHECK(tensors.targets.size(1) == s.image_channels(), "learn_steps: targets must have ", s.image_channels(),
                  " channels, got ", tensors.targets.size(1));
  STD_TORCH_CHECK(
      s.maps >= 1 && s.maps <= most_maps && s.sequences >= 1 && s.points >= 1 && s.height >= 2 && s.width >= 2,
      "learn_steps: maps, sequences and points must be at least 1, maps at most 2^31 - 1, height and width at least 2");
  check_image("learn_steps", s.image_channels(), s.height, s.width, s.cutoff);
  check_bandwidth("learn_steps", static_cast<float>(s.bandwidth));
  STD_TORCH_CHECK(s.low[0] < s.high[0] && s.low[1] < s.high[1], "learn_steps: viewport must not be empty");
  STD_TORCH_CHECK(tensors.rows.size(1) >= ParameterRow(s).count,
                  "learn_steps: rows must have a column for each of a system's parameters");
  STD_TORCH_CHECK(tensors.uniform.has_value() != tensors.index.has_value(),
                  "learn_steps: either uniform or index must be given, not both");
  const Tensor& drawn = tensors.uniform ? *tensors.uniform : *tensors.index;  // (..., K, T)
  STD_TORCH_CHECK(drawn.size(drawn.dim() - 2) == s.sequences && drawn.size(drawn.dim() - 1) == s.points,
                  "learn_steps: ", tensors.uniform ? "uniform" : "index", " must have ", s.sequences, " sequences of ",
                  s.points, " points");
  for (const Tensor* changed : {&tensors.rows, &tensors.first, tensors.second ? &*tensors.second : &tensors.first})
    STD_TORCH_CHECK(changed->is_contiguous(),
                    "learn_steps: rows, first and second must be contiguous, because they change in place");
}

Tensor learn_steps(const Tensor& targets_in, Tensor rows, Tensor first, std::optional<Tensor> second,
                   std::optional<Tensor> uniform_in, std::optional<Tensor> index_in, const Tensor& rates_in,
                   int64_t number, int64_t maps, int64_t sequences, int64_t points, bool color, double x_min,
                   double y_min, double x_max, double y_max, double bandwidth, double cutoff, double probability_floor,
                   double gradient_clip, double momentum, bool factors, bool clamped_values, bool learned,
                   bool balanced, bool clamped_image) {
  const Dtypes float32 = only<float>("float32");
  check_tensors("learn_steps", {{"targets", targets_in, "SCHW", float32},
                                {"rows", rows, "SP", float32},
                                {"first", first, "SP", float32},
                                {"second", second, "SP", float32},
                                {"rates", rates_in, "R", only<double>("float64")},
                                {"uniform", uniform_in, "SRKT"},
                                {"index", index_in, "SKT", map_numbers}});
  const Tensor targets = torch::stable::contiguous(targets_in), rates = torch::stable::contiguous(rates_in);
  const std::optional<Tensor> uniform = contiguous(uniform_in), index = contiguous(index_in);
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
  const Tensors tensors{targets, rows, first, second, uniform, index, rates};
  check_settings(settings, tensors);
  Tensor losses = allocate(targets, {rates.size(0), targets.size(0)});  // (steps, S)
  if (maps <= 256)
    learn<uint8_t, float>(settings, tensors, number, losses);
  else
    learn<int32_t, double>(settings, tensors, number, losses);
  return losses;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) { library.impl(FRACTALOPS_OP(learn_steps)); }

}  // namespace fractalops::cpu
