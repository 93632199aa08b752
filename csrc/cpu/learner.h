// The settings of the native loop of `fit`, and the layout of a system's parameters. This file does not include torch,
// so that the sanitizer tests can compile it separately.
#pragma once

#include <cstdint>

namespace fractalops::cpu {

// The settings of a step: the fields of FitConfig that affect it, and the picture's size.
struct LearningSettings {
  int64_t maps, sequences, points;  // N, K, T
  int64_t channels;                 // C of a map's color; 0 for gray, without colors
  int64_t height, width;
  double low[2], high[2];  // the viewport's corners
  double bandwidth, cutoff;
  double probability_floor;
  double gradient_clip;  // infinite if gradients are not clipped
  double momentum;       // of SGD
  bool factors;          // whether parameters are the SVD factors of the matrices; else their entries
  bool clamped_values;   // whether singular values are limited to [0, 1] by a clamp; else by a sigmoid
  bool learned;          // whether probabilities are the softmax of logits; else proportional to |det A|
  bool balanced;         // whether sequences are balanced; else drawn independently
  bool clamped_image;    // whether the loss is that of the image clamped to [0, 1]
  bool adam;             // whether the optimizer is Adam; else SGD

  int64_t image_channels() const { return channels > 0 ? channels : 1; }
  int64_t pixels() const { return image_channels() * height * width; }
};

// The positions of a system's parameters in its row: factors (N, 6) or matrices (N, 4), offsets (N, 2), colors (N, C)
// and logits (N), in the order of IFS.parameters().
struct ParameterRow {
  int64_t offset, color, logit, count;

  explicit ParameterRow(const LearningSettings& s)
      : offset((s.factors ? 6 : 4) * s.maps),
        color(offset + 2 * s.maps),
        logit(color + s.channels * s.maps),
        count(logit + (s.learned ? s.maps : 0)) {}
};

// The pictures and the steps of a call. The rows change in place. Index and Number are the types of draw_index: uint8_t
// and float for at most 256 maps, else int32_t and double.
template <typename Index, typename Number>
struct LearningBatch {
  int64_t systems, width;  // S, P
  const float* targets;    // (S, C, H, W)
  float* rows;             // (S, P)
  float* first;            // (S, P): Adam's means of gradients, or SGD's velocities
  float* second;           // (S, P): Adam's means of squared gradients; null for SGD
  const Number* uniform;   // (S, steps, K, T), or null
  const Index* index;      // (S, K, T): the sequences of every step; null if they are drawn from uniform
  const double* rates;     // (steps)
  int64_t number, steps;   // number of the first step, from 0; number of steps
};

}  // namespace fractalops::cpu
