// What the native loop of fit learns with: its settings, and where a system's parameters lie. No torch in here, so that
// the sanitizers can run it alone.
#pragma once

#include <cstdint>

namespace fractalops::cpu {

// The settings of a step: the fields of FitConfig that it depends on, and the picture's size.
struct LearningSettings {
  int64_t maps, sequences, points;  // N, K, T
  int64_t channels;                 // C of a map's color; 0 in gray, without colors
  int64_t height, width;
  double low[2], high[2];  // the viewport's corners
  double bandwidth, cutoff;
  double probability_floor;
  double gradient_clip;  // infinite without one
  double momentum;       // of SGD
  bool factors;          // parameters are the SVD factors of the matrices; else their entries
  bool clamped_values;   // singular values are kept in [0, 1] by a clamp; else by a sigmoid
  bool learned;          // probabilities are the softmax of logits; else proportional to |det A|
  bool balanced;         // sequences are balanced; else drawn independently
  bool clamped_image;    // the loss is that of the image limited to [0, 1]
  bool adam;             // else SGD

  int64_t image_channels() const { return channels > 0 ? channels : 1; }
  int64_t pixels() const { return image_channels() * height * width; }
};

// Where a system's parameters lie in its row: factors (N, 6) or matrices (N, 4), offsets (N, 2), colors (N, C) and
// logits (N), in the order of IFS.parameters().
struct ParameterRow {
  int64_t offset, color, logit, count;

  explicit ParameterRow(const LearningSettings& s)
      : offset((s.factors ? 6 : 4) * s.maps),
        color(offset + 2 * s.maps),
        logit(color + s.channels * s.maps),
        count(logit + (s.learned ? s.maps : 0)) {}
};

// The pictures of a call, and their steps. The rows are changed in place. Index and Number are those of draw_index:
// bytes and float for at most 256 maps, else int32_t and double.
template <typename Index, typename Number>
struct LearningBatch {
  int64_t systems, width;  // S, P
  const float* targets;    // (S, C, H, W)
  float* rows;             // (S, P)
  float* first;            // (S, P): Adam's means of gradients, SGD's velocities
  float* second;           // (S, P): Adam's means of squares; null for SGD
  const Number* uniform;   // (S, steps, K, T), or null
  const Index* index;      // (S, K, T): the sequences of every step; null where uniform draws them
  const double* rates;     // (steps)
  int64_t number, steps;   // of the first step, from 0 on; how many
};

}  // namespace fractalops::cpu
