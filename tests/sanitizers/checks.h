// Helpers of the sanitizer programs: random numbers, comparisons, and a count of the differences.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

inline std::mt19937 generator(0);
inline int failures = 0;

inline double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(generator); }

inline void check(bool holds, const char* what, const char* otherwise) {
  if (!holds) std::printf("%s: %s\n", what, otherwise), ++failures;
}

template <typename T>
std::vector<T> uniforms(size_t count, double low, double high) {
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(uniform(low, high));
  return values;
}

// Checks that values agree within a tolerance, relative to the largest expected value.
template <typename T>
void compare(const char* what, const std::vector<T>& got, const std::vector<double>& wanted) {
  const double tolerance = sizeof(T) == 4 ? 2e-5 : 1e-12;
  double scale = 1;
  for (double value : wanted) scale = std::max(scale, std::abs(value));
  for (size_t i = 0; i < wanted.size(); ++i)
    if (!(std::abs(got[i] - wanted[i]) <= tolerance * scale)) {
      std::printf("%s[%zu]: got %g, wanted %g\n", what, i, static_cast<double>(got[i]), wanted[i]);
      ++failures;
      return;
    }
}

// Prints the number of differences, and returns the program's exit status.
inline int report() {
  std::printf("%d differences\n", failures);
  return failures > 0;
}
