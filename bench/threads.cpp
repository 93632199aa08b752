// Shows how one image's rows are split over threads (csrc/cpu/strips.h), for bench/threads.py. Prints a line for each
// part: its strips, rows and points, including those in halos. The first thread's work to sort the points runs inside
// `counted`, so that callgrind can count its instructions. All threads have equal runs of points.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "../csrc/cpu/strips.h"

using namespace fractalops::cpu;

// callgrind finds this function by its plain name. The empty assembly at the end makes `run` return here. Without it,
// the last call could become a jump into `run`.
extern "C" __attribute__((noinline)) void counted(const std::function<void()>& run) {
  run();
  asm volatile("");
}

int main(int count, char** words) {
  const int64_t length = count == 6 ? std::atoll(words[2]) : 0, side = count == 6 ? std::atoll(words[3]) : 0;
  const float bandwidth = count == 6 ? static_cast<float>(std::atof(words[4])) : 0;
  const int64_t available = count == 6 ? std::atoll(words[5]) : 0;
  if (std::min({length, side, available}) < 1 || !(bandwidth > 0)) {
    std::fputs("arguments: FILE POINTS SIDE BANDWIDTH THREADS, all numbers above 0\n", stderr);
    return 2;
  }
  std::vector<float> points(2 * length);  // (T, 2)
  std::FILE* file = std::fopen(words[1], "rb");
  if (file == nullptr || std::fread(points.data(), sizeof(float), points.size(), file) != points.size()) {
    std::fprintf(stderr, "%s must have %ld points, as pairs of float32\n", words[1], static_cast<long>(length));
    return 2;
  }
  const Raster<float> whole(side, side, 1, bandwidth, 1e-6, 0, side);
  const int64_t threads = std::max<int64_t>(strip_threads(whole, length, available), 1);
  if (threads == 1 && !Strips<float>::pay_alone(whole, length)) {
    std::printf("1 %ld %ld\n", static_cast<long>(side), static_cast<long>(length));
    counted([] { asm volatile("nop"); });
    return 0;
  }
  Strips<float> strips(whole, length, threads);
  counted([&] { strips.count(0, points.data()); });
  for (int64_t run = 1; run < threads; ++run) strips.count(run, points.data());
  counted([&] { strips.plan(threads); });
  strips.allocate(false);
  counted([&] { strips.sort(0, points.data(), nullptr); });
  for (int64_t part = 0; part < strips.parts(); ++part) {
    const int64_t begin = strips.part_begin(part), end = strips.part_begin(part + 1);
    std::printf("%ld %ld %ld\n", static_cast<long>(end - begin),
                static_cast<long>(strips.row_begin(end) - strips.row_begin(begin)),
                static_cast<long>(strips.point_begin(end) - strips.point_begin(begin)));
  }
}
