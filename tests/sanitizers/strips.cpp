// One image drawn in strips on the program's own threads, without torch, for AddressSanitizer and ThreadSanitizer. The
// image must have the same bits as one that the kernel draws whole. If it does not, the program prints the case and
// exits with 1.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../../csrc/cpu/partial_sums.h"
#include "../../csrc/cpu/strips.h"

#define FRACTALOPS_KERNEL "rbf_rasterize_kernel.h"
#include "../../csrc/cpu/foreach_instruction_set.h"

#include "checks.h"

using namespace fractalops::cpu;

namespace {

// Runs each task on its own thread.
template <typename Work>
void run_tasks(int64_t tasks, const Work& work) {
  std::vector<std::thread> threads;
  for (int64_t task = 0; task < tasks; ++task) threads.emplace_back([&work, task] { work(task); });
  for (std::thread& thread : threads) thread.join();
}

// Draws `count` of the image's `length` points.
template <typename T>
void draw(const Raster<T>& raster, const T* points /* (count, 2) */, const T* weight /* (count, C) or null */,
          int64_t count, int64_t length, T* image /* (C, H, W) */) {
  using Line = typename Raster<T>::Line;
  const auto lines = [](int64_t elements) { return fractalops::divide_up(elements * sizeof(T), sizeof(Line)); };
  std::vector<Line> canvas(lines(raster.canvas())), scratch(lines(raster.scratch()));
  PartialSums<T> memory;
  PartialSums<T>* sums = memory.prepare(raster, length);
  FRACTALOPS_SELECT(rbf_rasterize_forward<T>)
  (raster, points, weight, count, canvas[0].values, scratch[0].values, nullptr, sums);
  copy_from_canvas(raster, canvas[0].values, sums ? sums->moved() : nullptr, image);
}

// Returns points (length, 2) with rows within `spread` of `center`, in units of the height. The first ones are not
// finite or far away.
template <typename T>
std::vector<T> make_points(int64_t length, int64_t height, int64_t width, double center, double spread) {
  std::vector<T> points(2 * length);
  for (int64_t t = 0; t < length; ++t) {
    points[2 * t] = static_cast<T>((center + uniform(-spread, spread)) * height);
    points[2 * t + 1] = static_cast<T>(uniform(-0.2, 1.2) * width);
    if (t % 7 == 0) points[2 * t] = std::floor(points[2 * t]) + T(0.5);
  }
  const T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const T odd[][2] = {{nan, 1}, {1, nan}, {infinity, 1}, {1, -infinity}, {T(1e30), 1}, {1, T(-1e30)}, {T(-1e9), nan}};
  for (size_t i = 0; i < std::size(odd) && static_cast<int64_t>(i) + 1 < length; ++i)
    points[2 * i] = odd[i][0], points[2 * i + 1] = odd[i][1];
  return points;
}

// Returns the number of strips.
template <typename T>
int64_t run_strips(int64_t height, int64_t width, int64_t channels, int64_t length, double bandwidth, double cutoff,
                   double center, double spread, int64_t threads) {
  const int64_t planes = std::max<int64_t>(channels, 1);
  const auto make_raster = [&](int64_t begin, int64_t end) {
    return Raster<T>(height, width, planes, static_cast<T>(bandwidth), cutoff, begin, end);
  };
  const Raster<T> whole = make_raster(0, height);
  const std::vector<T> points = make_points<T>(length, height, width, center, spread);  // (T, 2)
  std::vector<T> weight(length * channels);                                             // (T, C)
  for (T& value : weight) value = static_cast<T>(uniform(-1, 1));
  const T* weights = channels > 0 ? weight.data() : nullptr;
  std::vector<T> want(planes * height * width), got(want.size(), std::numeric_limits<T>::quiet_NaN());
  draw(whole, points.data(), weights, length, length, want.data());

  Strips<T> strips(whole, length, threads);
  run_tasks(threads, [&](int64_t run) { strips.count(run, points.data()); });
  strips.plan(threads);
  strips.allocate(weights != nullptr);
  run_tasks(threads, [&](int64_t run) { strips.sort(run, points.data(), weights); });
  run_tasks(strips.parts(), [&](int64_t part) {
    for (int64_t s = strips.part_begin(part); s < strips.part_begin(part + 1); ++s)
      draw(make_raster(strips.row_begin(s), strips.row_begin(s + 1)), strips.points(s), strips.weight(s),
           strips.point_begin(s + 1) - strips.point_begin(s), length, got.data());
  });
  const bool covers = strips.parts() <= threads && strips.part_begin(strips.parts()) == strips.strips() &&
                      strips.row_begin(0) == 0 && strips.row_begin(strips.strips()) == height;
  if (!covers || std::memcmp(got.data(), want.data(), sizeof(T) * want.size()) != 0) {
    std::printf("%ld x %ld, %ld channels, %ld points, %ld threads, %ld strips: differs\n", long(height), long(width),
                long(channels), long(length), long(threads), long(strips.strips()));
    ++failures;
  }
  return strips.strips();
}

template <typename T>
void run_sizes(int64_t threads) {
  const int64_t sizes[][2] = {{1, 1}, {5, 70}, {70, 1}, {300, 40}};
  for (const auto& size : sizes)
    for (int64_t channels : {0, 2})
      for (double bandwidth : {0.05, 1.0, 1e4})
        for (double spread : {0.0, 0.1, 0.7})
          run_strips<T>(size[0], size[1], channels, bandwidth > 1 ? 100 : 400, bandwidth, 1e-6, 0.4, spread, threads);
  run_strips<T>(64, 64, 0, 1, 1.0, 1e-6, 0.5, 0.1, threads);
  run_strips<T>(64, 64, 0, 600, 1.0, 1e-6, 90.0, 0.1, threads);  // all out of reach
  run_strips<T>(64, 64, 3, 0, 1.0, 1e-6, 0.5, 0.5, threads);
  // Images with sums that are split, with whole windows and with cut ones.
  for (int64_t channels : {0, 2})
    for (double spread : {0.01, 0.6}) {
      run_strips<T>(40, 100, channels, 20'000, 1.0, 1e-6, 0.4, spread, threads);
      run_strips<T>(20, 15, channels, 20'000, 25.0, 1e-2, 0.4, spread, threads);
      run_strips<T>(70, 5, channels, 20'000, 1.0, 1e-6, 0.4, spread, threads);
    }
  const int64_t strips = run_strips<T>(700, 1030, 0, 5000, 1.0, 1e-6, 0.5, 0.5, threads);
  if (strips <= threads) std::printf("%ld strips, wanted several per thread\n", long(strips)), ++failures;
}

}  // namespace

int main() {
  for (int64_t threads : {1, 2, 3, 8}) run_sizes<float>(threads), run_sizes<double>(threads);
  return report();
}
