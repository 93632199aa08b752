// rbf_rasterize on the CPU: the op's two functions, its registration, and how its work is split. The arithmetic is in
// rbf_rasterize_kernel.h. Shapes are checked in fractalops/ops/rbf_rasterize.py and, for direct calls of the op, here.
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "../memory.h"
#include "../tensors.h"
#include "check_raster.h"
#include "flush_subnormals.h"
#include "partial_sums.h"
#include "raster.h"
#include "split_tasks.h"
#include "strips.h"

#define FRACTALOPS_KERNEL "rbf_rasterize_kernel.h"
#include "foreach_instruction_set.h"
#define FRACTALOPS_INSTANCE
#define FRACTALOPS_KERNEL "rbf_rasterize_instances.h"
#include "foreach_instruction_set.h"

namespace fractalops::cpu {
namespace {

// The number of points of one image that a backward task differentiates. It is fixed, so that the bandwidth's gradient,
// a sum over the tasks in order, does not depend on the number of threads.
constexpr int64_t task_points = 4096;

// Scratch memory of one thread, uninitialized and aligned to a cache line. It grows if more memory is requested.
template <typename T>
class Scratch {
 public:
  T* get(int64_t elements) {
    if (elements > elements_) {
      memory_ = scratch<Line>(divide_up(elements * sizeof(T), sizeof(Line)));
      elements_ = elements;
    }
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  using Line = typename Raster<T>::Line;
  std::unique_ptr<Line[]> memory_;
  int64_t elements_ = 0;
};

// The memory with which one thread draws images.
template <typename T>
class Drawing {
 public:
  // Returns the raster of a whole image. It is that of the previous image, which must have the same size, if the
  // bandwidth is the same.
  const Raster<T>& raster(int64_t height, int64_t width, int64_t channels, T bandwidth, double cutoff) {
    if (!raster_ || raster_->bandwidth != bandwidth)
      raster_.emplace(height, width, channels, bandwidth, cutoff, 0, height);
    return *raster_;
  }

  // Draws the rows of a raster's band, with `count` of the image's `length` points.
  void draw(const Raster<T>& raster, const T* points /* (count, 2) */, const T* weight /* (count, C) or null */,
            int64_t count, int64_t length, T* image /* (C, H, W) */) {
    T* canvas = canvas_.get(raster.canvas());  // canvas()
    PartialSums<T>* sums = sums_.prepare(raster, length);
    std::memset(canvas, 0, sizeof(T) * raster.canvas());
    FRACTALOPS_SELECT(rbf_rasterize_forward<T>)(raster, points, weight, count, canvas, scratch_.get(raster.scratch()),
                                                nullptr, sums);
    copy_from_canvas(raster, canvas, sums ? sums->moved() : nullptr, image);
  }

 private:
  std::optional<Raster<T>> raster_;
  Scratch<T> canvas_, scratch_;
  PartialSums<T> sums_;
};

// Calls work(task) for each task, on up to one thread per task.
template <typename Work>
void run_tasks(int64_t tasks, const Work& work) {
  split_tasks(tasks, least_thread_time, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) work(task);
  });
}

// Draws one image, whole or in strips of its rows.
template <typename T>
void draw_image(const Raster<T>& whole, double cutoff, const T* points /* (T, 2) */,
                const T* weight /* (T, C) or null */, int64_t length, int64_t threads, T* image /* (C, H, W) */,
                Drawing<T>& drawing) {
  if (threads == 1 && !Strips<T>::pay_alone(whole, length))
    return drawing.draw(whole, points, weight, length, length, image);
  Strips<T> strips(whole, length, threads);
  run_tasks(threads, [&](int64_t run) { strips.count(run, points); });
  strips.plan(threads);
  if (strips.strips() == 1) return drawing.draw(whole, points, weight, length, length, image);
  strips.allocate(weight != nullptr);
  run_tasks(threads, [&](int64_t run) { strips.sort(run, points, weight); });
  run_tasks(strips.parts(), [&](int64_t part) {
    Drawing<T> own;
    for (int64_t s = strips.part_begin(part); s < strips.part_begin(part + 1); ++s) {
      const Raster<T> strip(whole.height, whole.width, whole.channels, whole.bandwidth, cutoff, strips.row_begin(s),
                            strips.row_begin(s + 1));
      own.draw(strip, strips.points(s), strips.weight(s), strips.point_begin(s + 1) - strips.point_begin(s), length,
               image);
    }
  });
}

template <typename T>
void check_bandwidths(const Tensor& bandwidth) {
  for (int64_t b = 0; b < bandwidth.size(0); ++b) check_bandwidth("rbf_rasterize", data<T>(bandwidth)[b]);
}

template <typename T>
void forward(const Tensor& points, const std::optional<Tensor>& weight, const Tensor& bandwidth, double cutoff,
             Tensor& image) {
  const int64_t images = points.size(0), length = points.size(1);
  const int64_t channels = image.size(1), height = image.size(2), width = image.size(3);
  check_bandwidths<T>(bandwidth);
  if (images == 0) return;
  const T* positions = data<T>(points);                    // (B, T, 2)
  const T* weights = weight ? data<T>(*weight) : nullptr;  // (B, T, C)
  const T* bandwidths = data<T>(bandwidth);                // (B)
  T* out = mutable_data<T>(image);                         // (B, C, H, W)
  const auto draw = [&](int64_t b, int64_t threads, Drawing<T>& drawing) {
    const Raster<T>& whole = drawing.raster(height, width, channels, bandwidths[b], cutoff);
    draw_image(whole, cutoff, positions + b * length * 2, weights ? weights + b * length * channels : nullptr, length,
               threads, out + b * channels * height * width, drawing);
  };
  const Raster<T> first(height, width, channels, bandwidths[0], cutoff, 0, height);
  static_assert(least_strips_time == 3 * least_thread_time);
  const int64_t threads = strip_threads(first, length, torch::stable::get_num_threads());
  if (threads > images) {
    Drawing<T> drawing;
    for (int64_t b = 0; b < images; ++b) draw(b, threads, drawing);
    return;
  }
  split_tasks(images, image_time(first, length), [&](int64_t begin, int64_t end) {
    Drawing<T> drawing;
    for (int64_t b = begin; b < end; ++b) draw(b, 1, drawing);
  });
}

// A thread's gradient in the layout of a canvas. It is filled again for another image or another bandwidth.
template <typename T>
class GradientCanvas {
 public:
  const T* get(const Raster<T>& raster, bool is_new_raster, const T* image /* (C, H, W) */) {
    if (raster.gradient() == raster.channels * raster.height * raster.width) return image;  // no padding
    T* canvas = memory_.get(raster.gradient());                                             // gradient()
    if (is_new_raster) std::memset(canvas, 0, sizeof(T) * raster.gradient());
    if (is_new_raster || image != image_) copy_to_gradient(raster, image, canvas);
    image_ = image;
    return canvas;
  }

 private:
  Scratch<T> memory_;
  const T* image_ = nullptr;
};

template <typename T>
void backward(const Tensor& grad, const Tensor& points, const std::optional<Tensor>& weight, const Tensor& bandwidth,
              double cutoff, bool needs_bandwidth, Tensor& grad_points, Tensor& grad_weight, Tensor& grad_bandwidth) {
  const int64_t images = points.size(0), length = points.size(1);
  const int64_t channels = grad.size(1), height = grad.size(2), width = grad.size(3);
  check_bandwidths<T>(bandwidth);
  if (images == 0) return;
  const T* positions = data<T>(points);                               // (B, T, 2)
  const T* weights = weight ? data<T>(*weight) : nullptr;             // (B, T, C)
  const T* bandwidths = data<T>(bandwidth);                           // (B)
  T* position_grads = mutable_data<T>(grad_points);                   // (B, T, 2)
  T* weight_grads = weight ? mutable_data<T>(grad_weight) : nullptr;  // (B, T, C)

  const T* pixels = data<T>(grad);  // (B, C, H, W)
  // With few points on a large image, a padded copy of the image takes more time than it saves.
  const bool masked = length * 16 < height * width;

  const int64_t tasks = divide_up(length, task_points);
  std::vector<double> partial(images * tasks);  // (B, tasks)
  const Raster<T> whole(height, width, channels, bandwidths[0], cutoff, 0, height, masked);
  const double task_time = point_time(whole, height) * static_cast<double>(std::min(length, task_points));
  split_tasks(images * tasks, task_time, [&](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    Scratch<T> scratch;
    GradientCanvas<T> canvas;
    std::optional<Raster<T>> raster;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / tasks, first = task % tasks * task_points;
      const bool is_new = !raster || raster->bandwidth != bandwidths[b];
      if (is_new) raster.emplace(height, width, channels, bandwidths[b], cutoff, 0, height, masked);
      partial[task] = FRACTALOPS_SELECT(rbf_rasterize_backward<T>)(
          *raster, positions + b * length * 2, weights ? weights + b * length * channels : nullptr,
          canvas.get(*raster, is_new, pixels + b * channels * height * width), first,
          std::min(length, first + task_points), needs_bandwidth, position_grads + b * length * 2,
          weights ? weight_grads + b * length * channels : nullptr, scratch.get(raster->scratch()), nullptr);
    }
  });
  if (!needs_bandwidth) return;
  T* bandwidth_grads = mutable_data<T>(grad_bandwidth);  // (B)
  for (int64_t b = 0; b < images; ++b)
    bandwidth_grads[b] =
        static_cast<T>(std::accumulate(partial.data() + b * tasks, partial.data() + (b + 1) * tasks, 0.0));
}

Tensor rbf_rasterize_fwd(const Tensor& points_in, std::optional<Tensor> weight_in, const Tensor& bandwidth_in,
                         int64_t height, int64_t width, double cutoff) {
  check_tensors("rbf_rasterize",
                {{"points", points_in, "BT2"}, {"weight", weight_in, "BTC"}, {"bandwidth", bandwidth_in, "B"}});
  const int64_t channels = weight_in ? weight_in->size(2) : 1;
  check_image("rbf_rasterize", channels, height, width, cutoff);
  const Tensor points = torch::stable::contiguous(points_in);        // (B, T, 2)
  const std::optional<Tensor> weight = contiguous(weight_in);        // (B, T, C)
  const Tensor bandwidth = torch::stable::contiguous(bandwidth_in);  // (B)
  Tensor image = allocate(points, {points.size(0), channels, height, width});
  with_floating("rbf_rasterize", "points", points,
                [&]<typename T>(T) { forward<T>(points, weight, bandwidth, cutoff, image); });
  return image;
}

// Returns the gradients of points, of weight (empty without a weight) and of bandwidth (empty unless needed).
std::tuple<Tensor, Tensor, Tensor> rbf_rasterize_bwd(const Tensor& grad_in, const Tensor& points_in,
                                                     std::optional<Tensor> weight_in, const Tensor& bandwidth_in,
                                                     double cutoff, bool needs_bandwidth) {
  check_tensors("rbf_rasterize", {{"points", points_in, "BT2"},
                                  {"weight", weight_in, "BTC"},
                                  {"bandwidth", bandwidth_in, "B"},
                                  {"grad", grad_in, weight_in ? "BCHW" : "B1HW"}});
  check_image("rbf_rasterize", grad_in.size(1), grad_in.size(2), grad_in.size(3), cutoff);
  const Tensor grad = torch::stable::contiguous(grad_in);            // (B, C, H, W)
  const Tensor points = torch::stable::contiguous(points_in);        // (B, T, 2)
  const std::optional<Tensor> weight = contiguous(weight_in);        // (B, T, C)
  const Tensor bandwidth = torch::stable::contiguous(bandwidth_in);  // (B)
  Tensor grad_points = allocate_like(points);
  Tensor grad_weight = weight ? allocate_like(*weight) : allocate(points, {0});
  Tensor grad_bandwidth = allocate(bandwidth, {needs_bandwidth ? bandwidth.size(0) : 0});
  with_floating("rbf_rasterize", "points", points, [&]<typename T>(T) {
    backward<T>(grad, points, weight, bandwidth, cutoff, needs_bandwidth, grad_points, grad_weight, grad_bandwidth);
  });
  return {grad_points, grad_weight, grad_bandwidth};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fractalops, CPU, library) {
  library.impl(FRACTALOPS_OP(rbf_rasterize_fwd));
  library.impl(FRACTALOPS_OP(rbf_rasterize_bwd));
}

}  // namespace fractalops::cpu
