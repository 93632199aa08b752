// What the programs for the sanitizers share: random numbers, and a count of what differs.
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

// Says how many differ, and returns the program's exit status.
inline int report() {
  std::printf("%d differences\n", failures);
  return failures > 0;
}
