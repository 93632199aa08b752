// Optimization steps of one system: the complete step of fractalops/fitting/learning.py, built from the ops' kernels.
//
// Ownership: a learner belongs to one thread. Its memory is allocated once for many steps; a step allocates nothing. It
// learns one picture at a time. All state of a picture is in the picture's rows. So the bits of a picture depend
// neither on other pictures nor on how its steps are split into calls.
//
// This file is included once per instruction set, after the kernels that it calls, so it has no include guard. It does
// not include torch, so that the sanitizer tests can compile it separately.

namespace fractalops::cpu::FRACTALOPS_ISA {

// The target, the parameters and the optimizer's state of one picture.
struct LearnedPicture {
  const float* target;          // (C, H, W)
  float *row, *first, *second;  // (P) each, as in LearningBatch
};

template <typename Index, typename Number>
class Learner {
 public:
  explicit Learner(const LearningSettings& settings);

  // Takes step `number`, counted from 0. Returns its loss.
  float step(const LearnedPicture& picture, const Number* uniform /* (K, T) or null */,
             const Index* given /* (K, T) or null */, double rate, int64_t number);

 private:
  void find_probabilities(const float* row);
  void draw(const Number* uniform);
  void fold_maps(const float* row);
  double draw_pictures(const float* target);
  void differentiate_chain();
  void differentiate_parameters(const float* row);
  double differentiate_image(const float* target, const double* moved /* (C, H, W) or null */);

  using Line = Raster<float>::Line;
  static constexpr int64_t most_kept_points = 2048;
  static_assert(most_kept_points <= PartialSums<float>::few);
  static int64_t lines(int64_t elements) { return divide_up(elements * sizeof(float), sizeof(Line)); }

  const LearningSettings s_;
  const ParameterRow place_;
  const FoldedViewport viewport_;
  const Raster<float> raster_;

  std::vector<float> matrix_, offset_;                // (N, 2, 2), (N, 2): of the system
  std::vector<float> folded_matrix_, folded_offset_;  // (N, 2, 2), (N, 2): in pixels
  std::vector<float> start_;                          // (K, 2), in pixels
  std::vector<float> color_;                          // (N, C)
  std::vector<double> probability_;                   // (N)
  std::vector<Number> bounds_;                        // (N - 1)
  std::vector<double> share_bounds_;                  // (N - 1)
  std::vector<int32_t> share_;                        // (stride)
  BalancedCounts counts_;
  std::vector<Index> index_;                       // (K, T)
  const Index* drawn_;                             // (K, T)
  std::vector<float> points_, grad_points_;        // (K, T, 2)
  std::vector<float> weight_, grad_weight_;        // color: (T, C) of one sequence; gray: empty and (K, T)
  std::vector<double> map_weights_;                // (N, C): sums of grad_weight over each map's points
  std::vector<MapGradient<2>> grad_maps_;          // (N)
  std::vector<float> grad_start_;                  // (K, 2), written but not read
  std::vector<float> grad_;                        // (P)
  std::vector<Line> canvas_, gradient_, scratch_;  // canvas(), gradient() and scratch() of the rasterizer
  std::vector<Line> kept_;                         // kept(T), or empty if it would not stay in a cache
  PartialSums<float> sums_;
  std::vector<float> pixels_;  // (W): a row of the image
};

template <typename Index, typename Number>
Learner<Index, Number>::Learner(const LearningSettings& s)
    : s_(s),
      place_(s),
      viewport_(s.low, s.high, s.height, s.width),
      raster_(s.height, s.width, s.image_channels(), static_cast<float>(s.bandwidth), s.cutoff, 0, s.height),
      matrix_(4 * s.maps),
      offset_(2 * s.maps),
      folded_matrix_(4 * s.maps),
      folded_offset_(2 * s.maps),
      start_(2 * s.sequences),
      color_(s.channels * s.maps),
      probability_(s.maps),
      bounds_(s.maps - 1),
      share_bounds_(s.maps - 1),
      share_(balanced_stride(s.maps)),
      counts_(s.maps, s.balanced ? s.points : 0),
      index_(s.sequences * s.points),
      points_(2 * s.sequences * s.points),
      grad_points_(2 * s.sequences * s.points),
      weight_(s.channels * s.points),
      grad_weight_(s.channels > 0 ? s.channels * s.points
                   : s.learned    ? s.sequences * s.points
                                  : 0),
      map_weights_(s.channels * s.maps),
      grad_maps_(s.maps),
      grad_start_(2 * s.sequences),
      grad_(place_.count),
      canvas_(lines(raster_.canvas())),
      gradient_(lines(raster_.gradient())),
      scratch_(lines(raster_.scratch())),
      kept_(s.points <= most_kept_points ? lines(raster_.kept(s.points)) : 0),
      pixels_(s.width) {
  sums_.prepare(raster_, s.points);
}

// Computes numbers to which the maps' probabilities are proportional. Learned probabilities add up to 1.
template <typename Index, typename Number>
void Learner<Index, Number>::find_probabilities(const float* row) {
  const auto value = [&](float parameter) {
    return s_.clamped_values ? std::clamp(parameter, 0.0f, 1.0f) : 1 / (1 + std::exp(-parameter));
  };
  if (s_.learned) {
    const float* logit = row + place_.logit;  // (N)
    const float largest = *std::max_element(logit, logit + s_.maps);
    float sum = 0;
    for (int64_t n = 0; n < s_.maps; ++n) sum += std::exp(logit[n] - largest);
    for (int64_t n = 0; n < s_.maps; ++n) probability_[n] = std::exp(logit[n] - largest) / sum;
  } else if (s_.factors) {
    for (int64_t n = 0; n < s_.maps; ++n) probability_[n] = value(row[6 * n + 2]) * value(row[6 * n + 3]);
  } else {
    for (int64_t n = 0; n < s_.maps; ++n) {
      const float* a = row + 4 * n;  // (2, 2)
      probability_[n] = std::abs(a[0] * a[3] - a[1] * a[2]);
    }
  }
}

template <typename Index, typename Number>
void Learner<Index, Number>::draw(const Number* uniform) {
  if (!s_.balanced) {
    cumulative_bounds(probability_.data(), s_.maps, s_.probability_floor, bounds_.data());
    count_bounds(bounds_.data(), s_.maps - 1, uniform, s_.sequences * s_.points, index_.data());
    return;
  }
  balanced_shares(probability_.data(), s_.maps, s_.probability_floor, share_bounds_.data(), share_.data());
  draw_balanced_sequences(share_.data(), counts_, uniform, s_.sequences, index_.data());
}

template <typename Index, typename Number>
void Learner<Index, Number>::fold_maps(const float* row) {
  if (s_.factors)
    for (int64_t n = 0; n < s_.maps; ++n) svd_matrix(row + 6 * n, s_.clamped_values, matrix_.data() + 4 * n);
  else
    std::copy(row, row + 4 * s_.maps, matrix_.data());
  const float* offset = row + place_.offset;  // (N, 2)
  for (int64_t n = 0; n < s_.maps; ++n)
    viewport_.fold(matrix_.data() + 4 * n, offset + 2 * n, folded_matrix_.data() + 4 * n,
                   folded_offset_.data() + 2 * n);
  float point[2];
  solve_fixed_point(matrix_.data(), offset, point);
  for (int64_t k = 0; k < s_.sequences; ++k) viewport_.place(point, start_.data() + 2 * k);
  for (size_t i = 0; i < color_.size(); ++i) color_[i] = 1 / (1 + std::exp(-row[place_.color + i]));
}

// Writes the gradient of the image on the canvas. Returns the sum of its squared errors.
template <typename Index, typename Number>
double Learner<Index, Number>::differentiate_image(const float* target, const double* moved /* (C, H, W) or null */) {
  const float factor = 2.0f / static_cast<float>(s_.sequences * s_.pixels());
  const PixelRange<float> range(s_.clamped_image);
  SquaredErrors<float> errors;
  for (int64_t c = 0; c < s_.image_channels(); ++c)
    for (int64_t i = 0; i < s_.height; ++i, target += s_.width) {
      const int64_t place = c * raster_.plane() + raster_.origin() + i * raster_.stride;
      const float* pixels = canvas_[0].values + place;  // (W)
      if (raster_.layers > 1 || moved != nullptr) {
        add_parts(raster_, pixels, moved ? moved + (c * s_.height + i) * s_.width : nullptr, pixels_.data());
        pixels = pixels_.data();
      }
      errors.add(pixels, target, s_.width, range);
      clamped_squares_adjoint(pixels, target, s_.width, factor, range, gradient_[0].values + place);
    }
  return errors.total();
}

// Draws the sequences one by one and computes the gradients of their points. Returns the sum of the squared errors.
template <typename Index, typename Number>
double Learner<Index, Number>::draw_pictures(const float* target) {
  std::fill(map_weights_.begin(), map_weights_.end(), 0.0);
  double errors = 0;
  for (int64_t k = 0; k < s_.sequences; ++k) {
    const float* points = points_.data() + 2 * k * s_.points;          // (T, 2)
    const Index* drawn = drawn_ + k * s_.points;                       // (T)
    const float* weight = s_.channels > 0 ? weight_.data() : nullptr;  // (T, C)
    float* grad_weight = grad_weight_.empty() ? nullptr : grad_weight_.data() + (s_.channels > 0 ? 0 : k * s_.points);
    for (int64_t t = 0; s_.channels > 0 && t < s_.points; ++t)
      std::copy_n(color_.data() + drawn[t] * s_.channels, s_.channels, weight_.data() + t * s_.channels);
    float* kept = kept_.empty() ? nullptr : kept_[0].values;  // kept(T) or null
    std::memset(canvas_.data(), 0, canvas_.size() * sizeof(Line));
    PartialSums<float>* sums = sums_.prepare(raster_, s_.points);
    rbf_rasterize_forward<float>(raster_, points, weight, s_.points, canvas_[0].values, scratch_[0].values, kept, sums);
    errors += differentiate_image(target, sums ? sums->moved() : nullptr);
    rbf_rasterize_backward<float>(raster_, points, weight, gradient_[0].values, 0, s_.points, false,
                                  grad_points_.data() + 2 * k * s_.points, grad_weight, scratch_[0].values, kept);
    for (int64_t t = 0; s_.channels > 0 && t < s_.points; ++t)
      for (int64_t c = 0; c < s_.channels; ++c)
        map_weights_[drawn[t] * s_.channels + c] += grad_weight_[t * s_.channels + c];
  }
  return errors;
}

template <typename Index, typename Number>
void Learner<Index, Number>::differentiate_parameters(const float* row) {
  float* grad_offset = grad_.data() + place_.offset;  // (N, 2)
  for (int64_t n = 0; n < s_.maps; ++n) {
    float along_matrix[4], along_offset[2], grad_matrix[4];
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j) along_matrix[2 * i + j] = static_cast<float>(grad_maps_[n].matrix[i][j]);
      along_offset[i] = static_cast<float>(grad_maps_[n].offset[i]);
    }
    viewport_.fold_adjoint(along_matrix, along_offset, grad_matrix, grad_offset + 2 * n);
    if (s_.factors)
      svd_matrix_adjoint(row + 6 * n, s_.clamped_values, grad_matrix, grad_.data() + 6 * n);
    else
      std::copy_n(grad_matrix, 4, grad_.data() + 4 * n);
  }
  for (size_t i = 0; i < color_.size(); ++i)
    grad_[place_.color + i] = static_cast<float>(map_weights_[i]) * color_[i] * (1 - color_[i]);
  if (!s_.learned) return;
  // G_n - p_n sum of all G, where G_n is the sum of the gradients of the weights of map n's points (IFS.forward).
  float* grad_logit = grad_.data() + place_.logit;  // (N)
  float total = 0;
  for (int64_t n = 0; n < s_.maps; ++n) {
    grad_logit[n] = static_cast<float>(grad_maps_[n].weight);  // zero in color
    for (int64_t i = n * s_.channels; i < (n + 1) * s_.channels; ++i)
      grad_logit[n] += static_cast<float>(map_weights_[i]) * color_[i];
    total += grad_logit[n];
  }
  for (int64_t n = 0; n < s_.maps; ++n) grad_logit[n] -= static_cast<float>(probability_[n]) * total;
}

template <typename Index, typename Number>
void Learner<Index, Number>::differentiate_chain() {
  const AffineChain<float, Index> chain{
      folded_matrix_.data(), folded_offset_.data(), drawn_, start_.data(), s_.maps, s_.sequences, s_.points};
  std::fill(grad_maps_.begin(), grad_maps_.end(), MapGradient<2>{});
  const float* weight = s_.channels == 0 && s_.learned ? grad_weight_.data() : nullptr;  // (K, T) or null
  affine_chain_backward<float, 2, Index>(chain,
                                         {.grad = grad_points_.data(),
                                          .points = points_.data(),
                                          .maps = grad_maps_.data(),
                                          .start = grad_start_.data(),
                                          .weight = weight},
                                         0, s_.sequences);
}

template <typename Index, typename Number>
float Learner<Index, Number>::step(const LearnedPicture& picture, const Number* uniform, const Index* given,
                                   double rate, int64_t number) {
  find_probabilities(picture.row);
  if (given == nullptr) draw(uniform);
  drawn_ = given == nullptr ? index_.data() : given;
  fold_maps(picture.row);
  affine_chain_forward<float, 2, Index>(
      {folded_matrix_.data(), folded_offset_.data(), drawn_, start_.data(), s_.maps, s_.sequences, s_.points}, 0,
      s_.sequences, points_.data());
  const double errors = draw_pictures(picture.target);
  differentiate_chain();
  differentiate_parameters(picture.row);
  if (std::isfinite(s_.gradient_clip)) clip_gradient(s_.gradient_clip, place_.count, grad_.data());
  if (s_.adam)
    Adam(rate, number + 1)(place_.count, grad_.data(), picture.first, picture.second, picture.row);
  else
    sgd_step(rate, s_.momentum, place_.count, grad_.data(), picture.first, picture.row);
  return static_cast<float>(errors / static_cast<double>(s_.sequences * s_.pixels()));
}

// Takes all steps of the pictures [begin, end).
template <typename Index, typename Number>
void learn_pictures(const LearningSettings& settings, const LearningBatch<Index, Number>& batch, int64_t begin,
                    int64_t end, float* losses /* (steps, S) */) {
  const FlushSubnormals flush;
  Learner<Index, Number> learner(settings);
  const int64_t draws = settings.sequences * settings.points;
  for (int64_t s = begin; s < end; ++s) {
    const int64_t row = s * batch.width;
    const LearnedPicture picture{batch.targets + s * settings.pixels(), batch.rows + row, batch.first + row,
                                 batch.second == nullptr ? nullptr : batch.second + row};
    const Index* index = batch.index == nullptr ? nullptr : batch.index + s * draws;  // (K, T) or null
    for (int64_t step = 0; step < batch.steps; ++step)
      losses[step * batch.systems + s] =
          learner.step(picture, index == nullptr ? batch.uniform + (s * batch.steps + step) * draws : nullptr, index,
                       batch.rates[step], batch.number + step);
  }
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
