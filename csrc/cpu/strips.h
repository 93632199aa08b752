// Draws one image with several threads. The image's rows are split into strips, and the points are sorted by the strips
// that they reach. The sort is stable, so that a pixel's points are added in their order. So the image has the same
// bits for every split, and also if the kernel draws it whole.
//
// Ownership. In `count` and `sort`, a task owns a run of the points and writes the run's own counts and slots. In
// drawing, a task owns a part, which has one or more consecutive strips. All parts have equal work, including the halos
// of windows. Within a part, a strip's canvas fits into a cache. A point in a halo is drawn in each strip that it
// reaches.
//
// This file does not include torch, so that the sanitizer tests can compile it separately.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "../memory.h"
#include "raster.h"

namespace fractalops::cpu {

// The minimum work of a thread, in nanoseconds, for three parallel regions (split_tasks.h).
inline constexpr double least_strips_time = 600e3;

// Returns how many of `threads` threads have enough work with one image. If it is less than 2, strips for several
// threads take more time than they save.
template <typename T>
int64_t strip_threads(const Raster<T>& whole, int64_t length, int64_t threads) {
  const double most = image_time(whole, length) / least_strips_time;
  return static_cast<int64_t>(std::min(most, static_cast<double>(threads)));
}

template <typename T>
class Strips {
 public:
  // Larger canvases do not fit into the L2 cache. A point then takes up to twice as long.
  static constexpr int64_t cache_bytes = 1 << 18;

  // Whether strips save time even on one thread, because the canvas is much larger than the cache.
  static bool pay_alone(const Raster<T>& whole, int64_t length) {
    return whole.canvas() * static_cast<int64_t>(sizeof(T)) >= 4 * cache_bytes && length >= 16 * run_points &&
           reach_of(whole) < whole.height / 8;
  }

  // Splits `length` points into `runs` runs of consecutive points.
  Strips(const Raster<T>& whole, int64_t length, int64_t runs)
      : whole_(whole),
        length_(length),
        runs_(runs),
        reach_(reach_of(whole)),
        counts_(scratch<int64_t>(runs * (whole.height + 2))) {
    const int64_t row_bytes = divide_up(whole.canvas() * static_cast<int64_t>(sizeof(T)), whole.height);
    largest_rows_ = std::max({cache_bytes / row_bytes, 8 * reach_, int64_t(1)});
  }

  // First pass: counts the points of one run by the row of their centers.
  void count(int64_t run, const T* points /* (T, 2) */) {
    int64_t* counts = counts_.get() + run * (whole_.height + 2);  // (height + 2)
    std::fill_n(counts, whole_.height + 2, 0);
    Integer rows[run_points];
    for (int64_t t = run_begin(run); t < run_begin(run + 1); t += run_points) {
      const int64_t block = find_rows(run, points, t, rows);
      for (int64_t i = 0; i < block; ++i) ++counts[rows[i] + 1];
    }
    // From here on, counts[row] is the sum over the rows before `row`. Points that reach no pixel are left out.
    std::partial_sum(counts, counts + whole_.height + 1, counts);
  }

  // Splits the rows into at most `parts` parts of equal work, or into fewer if halos would be half of it. Must be
  // called after `count`.
  void plan(int64_t parts) {
    sums_.assign(whole_.height + 1, 0);
    for (int64_t run = 0; run < runs_; ++run)
      for (int64_t row = 0; row <= whole_.height; ++row) sums_[row] += counts_[run * (whole_.height + 2) + row];
    const double all = part_time(0, whole_.height);
    // Bisects the time of the largest part. A split with the time `most` is always possible.
    double least = all / static_cast<double>(parts), most = all;
    for (int step = 0; step < 12; ++step) {
      const double middle = (least + most) / 2;
      const int64_t needed = split_rows(middle, parts);
      (needed <= parts && static_cast<double>(needed) * middle <= 2 * all ? most : least) = middle;
    }
    // If most points are in one row, strips do not save time.
    if (most < 0.8 * all)
      split_rows(most, parts);
    else
      part_rows_ = {0, whole_.height};
    split_parts();
  }

  // Second pass: copies the points of one run into their strips. Must be called after `allocate`.
  void sort(int64_t run, const T* points /* (T, 2) */, const T* weight /* (T, C) or null */) {
    weight ? sort_points<true>(run, points, weight) : sort_points<false>(run, points, weight);
  }

  // Allocates memory for the sorted points. Must be called after `plan`.
  void allocate(bool weighted) {
    begin_.assign(strips() + 1, 0);
    for (int64_t s = 0; s < strips(); ++s) begin_[s + 1] = begin_[s] + reaching(sums_.data(), rows_[s], rows_[s + 1]);
    points_ = scratch<T>(begin_.back() * 2);
    if (weighted) weights_ = scratch<T>(begin_.back() * whole_.channels);
    find_reached();
  }

  int64_t strips() const { return static_cast<int64_t>(rows_.size()) - 1; }
  int64_t parts() const { return static_cast<int64_t>(parts_.size()) - 1; }
  // The first strip of a part, the first row of a strip, and its first sorted point. One past the last part or strip,
  // they return the end.
  int64_t part_begin(int64_t part) const { return parts_[part]; }
  int64_t row_begin(int64_t strip) const { return rows_[strip]; }
  int64_t point_begin(int64_t strip) const { return begin_[strip]; }
  const T* points(int64_t strip) const { return points_.get() + 2 * begin_[strip]; }  // (points of the strip, 2)
  const T* weight(int64_t strip) const {  // (points of the strip, C) or null
    return weights_ ? weights_.get() + begin_[strip] * whole_.channels : nullptr;
  }

 private:
  using Integer = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

  // The strips [first, end) that a point with its center in a given row reaches.
  struct Reached {
    int64_t first, end;
  };

  static int64_t reach_of(const Raster<T>& whole) {
    return static_cast<int64_t>(std::min(static_cast<double>(whole.radius), static_cast<double>(whole.height)));
  }

  int64_t run_begin(int64_t run) const { return length_ * run / runs_; }

  // Finds the rows of the centers of a block of points, from point t of the run on. Returns the number of points. A
  // center outside the image is moved to the nearest row. The row is `height` if the point reaches no pixel.
  int64_t find_rows(int64_t run, const T* points /* (T, 2) */, int64_t t, Integer* rows /* (run_points) */) const {
    constexpr T rounder = sizeof(T) == 4 ? T(12582912.0) : T(6755399441055744.0);  // 1.5 * 2^(mantissa bits)
    const int64_t count = std::min<int64_t>(run_begin(run + 1) - t, run_points);
    // Half a pixel allows for the rounding. The limits are finite, so that infinite points are left out.
    const T reach = whole_.radius + T(0.5), largest = std::numeric_limits<T>::max();
    const T last_row = static_cast<T>(whole_.height - 1), last_column = static_cast<T>(whole_.width - 1);
    const T lowest = std::max(-reach, -largest);
    const T highest_x = std::min(last_row + reach, largest), highest_y = std::min(last_column + reach, largest);
    const Integer outside = static_cast<Integer>(whole_.height);
    for (int64_t i = 0; i < count; ++i) {
      const T x = points[2 * (t + i)], y = points[2 * (t + i) + 1];
      const bool reaches = (x >= lowest) & (x <= highest_x) & (y >= lowest) & (y <= highest_y);
      const T above = x > T(0) ? x : T(0), inside = above < last_row ? above : last_row;
      const Integer row = std::bit_cast<Integer>(inside + rounder) - std::bit_cast<Integer>(rounder);
      rows[i] = reaches ? row : outside;
    }
    return count;
  }

  template <bool Weighted>
  void sort_points(int64_t run, const T* points /* (T, 2) */, const T* weight /* (T, C) or null */) {
    std::vector<int64_t> slots_of_run = first_slots(run);
    int64_t* slots = slots_of_run.data();  // (strips + 1); a local pointer, which stores of points cannot change
    const Reached* reached_by = reached_.data();
    const int64_t channels = whole_.channels;
    T *sorted = points_.get(), *weights = weights_.get();
    Integer rows[run_points];
    for (int64_t t = run_begin(run), end = run_begin(run + 1); t < end; t += run_points) {
      const int64_t block = find_rows(run, points, t, rows);
      const T* point = points + 2 * t;  // (2)
      for (int64_t i = 0; i < block; ++i, point += 2) {
        const Reached reached = reached_by[rows[i]];
        for (int64_t *slot = slots + reached.first, *last = slots + reached.end; slot != last; ++slot) {
          const int64_t to = (*slot)++;
          std::memcpy(sorted + 2 * to, point, 2 * sizeof(T));
          if (Weighted) std::copy_n(weight + (t + i) * channels, channels, weights + to * channels);
        }
      }
    }
  }

  // Returns the number of points that reach the rows [begin, end). `sums` has the sum of the counts before each row.
  int64_t reaching(const int64_t* sums /* (height + 1) */, int64_t begin, int64_t end) const {
    return sums[std::min(end + reach_, whole_.height)] - sums[std::max<int64_t>(begin - reach_, 0)];
  }

  int64_t strips_of(int64_t begin, int64_t end) const { return divide_up(end - begin, largest_rows_); }

  // Returns the nanoseconds that one thread takes for the rows [begin, end).
  double part_time(int64_t begin, int64_t end) const {
    const int64_t strips = strips_of(begin, end);
    double time = pixel_time * static_cast<double>((end - begin) * whole_.channels * whole_.stride);
    for (int64_t s = 0; s < strips; ++s) {
      const int64_t from = begin + (end - begin) * s / strips, to = begin + (end - begin) * (s + 1) / strips;
      time += point_time(whole_, to - from) * static_cast<double>(reaching(sums_.data(), from, to));
    }
    return time;
  }

  // Splits the rows into parts of at most `time` nanoseconds, each as long as possible. Returns their number, or
  // most_parts + 1 if there would be more than most_parts.
  int64_t split_rows(double time, int64_t most_parts) {
    part_rows_.assign(1, 0);
    while (part_rows_.back() < whole_.height) {
      const int64_t begin = part_rows_.back();
      int64_t end = begin, above = whole_.height + 1;  // the part can end at `end`, but not at `above`
      while (above - end > 1) {
        const int64_t middle = (end + above) / 2;
        (part_time(begin, middle) <= time ? end : above) = middle;
      }
      if (end == begin || static_cast<int64_t>(part_rows_.size()) > most_parts) return most_parts + 1;
      part_rows_.push_back(end);
    }
    return static_cast<int64_t>(part_rows_.size()) - 1;
  }

  // Splits each part into strips.
  void split_parts() {
    rows_.assign(1, 0);
    parts_.assign(1, 0);
    for (size_t part = 0; part + 1 < part_rows_.size(); ++part) {
      const int64_t begin = part_rows_[part], rows = part_rows_[part + 1] - begin;
      const int64_t strips = strips_of(begin, begin + rows);
      for (int64_t s = 1; s <= strips; ++s) rows_.push_back(begin + rows * s / strips);
      parts_.push_back(static_cast<int64_t>(rows_.size()) - 1);
    }
  }

  void find_reached() {
    reached_.assign(whole_.height + 1, {0, 0});
    int64_t first = 0, last = 0;
    for (int64_t row = 0; row < whole_.height; ++row) {
      while (rows_[first + 1] <= row - reach_) ++first;
      while (rows_[last + 1] <= std::min(row + reach_, whole_.height - 1)) ++last;
      reached_[row] = {first, last + 1};
    }
  }

  // Returns the slot of a run's first point in each strip, (strips + 1). It comes after the slots of the runs before.
  std::vector<int64_t> first_slots(int64_t run) const {
    std::vector<int64_t> slots(begin_);  // (strips + 1)
    for (int64_t s = 0; s < strips(); ++s)
      for (int64_t before = 0; before < run; ++before)
        slots[s] += reaching(counts_.get() + before * (whole_.height + 2), rows_[s], rows_[s + 1]);
    return slots;
  }

  const Raster<T>& whole_;
  int64_t length_, runs_, reach_, largest_rows_;
  std::unique_ptr<int64_t[]> counts_;  // (runs, height + 2): points of a run with centers before a row
  std::vector<int64_t> sums_;          // (height + 1): the same for all runs
  std::vector<int64_t> part_rows_;     // (parts + 1): first row of a part
  std::vector<int64_t> parts_;         // (parts + 1): first strip of a part
  std::vector<int64_t> rows_;          // (strips + 1): first row of a strip
  std::vector<int64_t> begin_;         // (strips + 1): first sorted point of a strip
  std::vector<Reached> reached_;       // (height + 1): by the center's row; the last is for points that reach no pixel
  std::unique_ptr<T[]> points_;        // (sorted points, 2)
  std::unique_ptr<T[]> weights_;       // (sorted points, C) or null
};

}  // namespace fractalops::cpu
