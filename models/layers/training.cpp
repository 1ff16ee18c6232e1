// The layers whose backward passes are short: norm, GELU, merging, mean.
#include "models/layers/training.h"

#include <algorithm>
#include <memory>

namespace nalab::models {

namespace {

constexpr float kEpsilon = 1e-5F;
/// As in norm.cpp.
constexpr int64_t kPieceNumbers = 1 << 16;

/// A layer norm that keeps mean and variance of each token.
class TrainedNorm {
 public:
  TrainedNorm(const LayerNorm& norm, const BackwardSite& site)
      : state_(norm.state),
        workers_(site.forward.backend.workers),
        gradients_(site.gradients),
        x_(site.x()),
        y_(site.forward.output),
        dy_(site.d_output),
        dx_(site.d_inputs.front()),
        channels_(x_.extent.channels),
        cut_(Cut::about(x_.tokens(), std::max<int64_t>(1, kPieceNumbers / channels_))),
        mean_(x_.tokens()),
        variance_(x_.tokens()),
        d_scale_(cut_.pieces() * channels_),
        d_shift_(cut_.pieces() * channels_) {
    const memory scale = site.forward.row(norm.state + ".weight"), shift = site.forward.row(norm.state + ".bias");
    add_pieces(site.forward.backend.onednn, cut_.piece, scale, shift, full_);
    add_pieces(site.forward.backend.onednn, cut_.size(cut_.pieces() - 1), scale, shift, last_);
  }

  void forward() {
    workers_.for_each(cut_.pieces(), [&](int64_t i, int worker) {
      const int64_t token = cut_.first(i), first = token * channels_;
      pieces(i).forward.run(worker, {{DNNL_ARG_SRC, x_.at(first)},
                                     {DNNL_ARG_DST, y_.at(first)},
                                     {DNNL_ARG_MEAN, mean_.data() + token},
                                     {DNNL_ARG_VARIANCE, variance_.data() + token}});
    });
  }

  void backward() {
    workers_.for_each(cut_.pieces(), [&](int64_t i, int worker) {
      const int64_t token = cut_.first(i), first = token * channels_;
      pieces(i).backward.run(worker, {{DNNL_ARG_SRC, x_.at(first)},
                                      {DNNL_ARG_DIFF_DST, dy_.at(first)},
                                      {DNNL_ARG_DIFF_SRC, dx_.at(first)},
                                      {DNNL_ARG_MEAN, mean_.data() + token},
                                      {DNNL_ARG_VARIANCE, variance_.data() + token},
                                      {DNNL_ARG_DIFF_SCALE, d_scale_.data() + i * channels_},
                                      {DNNL_ARG_DIFF_SHIFT, d_shift_.data() + i * channels_}});
    });
    add_up(workers_, d_scale_.data(), cut_.pieces(), channels_, gradients_.at(state_ + ".weight").data());
    add_up(workers_, d_shift_.data(), cut_.pieces(), channels_, gradients_.at(state_ + ".bias").data());
  }

 private:
  struct Both {
    Piece forward, backward;
  };
  const Both& pieces(int64_t i) const { return i + 1 < cut_.pieces() ? full_ : last_; }

  void add_pieces(OneDnn& onednn, int64_t tokens, const memory& scale, const memory& shift, Both& both) const {
    using dnnl::normalization_flags, dnnl::prop_kind;
    const auto flags = normalization_flags::use_scale | normalization_flags::use_shift;
    const memory::desc rows = matrix_desc(x_.type, tokens, channels_, channels_);
    const memory::desc row({channels_}, memory::data_type::f32, memory::format_tag::a);
    const dnnl::layer_normalization_forward::primitive_desc forward(
        {prop_kind::forward_training, rows, kEpsilon, flags}, OneDnn::attributes(), onednn.engine());
    both.forward = {onednn,
                    dnnl::layer_normalization_forward(forward),
                    forward.scratchpad_desc(),
                    {{DNNL_ARG_SCALE, scale}, {DNNL_ARG_SHIFT, shift}},
                    {{DNNL_ARG_SRC, rows},
                     {DNNL_ARG_DST, rows},
                     {DNNL_ARG_MEAN, forward.mean_desc()},
                     {DNNL_ARG_VARIANCE, forward.variance_desc()}}};
    const dnnl::layer_normalization_backward::primitive_desc backward(
        {prop_kind::backward, rows, rows, kEpsilon, flags}, OneDnn::attributes(), onednn.engine(), forward);
    both.backward = {onednn,
                     dnnl::layer_normalization_backward(backward),
                     backward.scratchpad_desc(),
                     {{DNNL_ARG_SCALE, scale}, {DNNL_ARG_SHIFT, shift}},  // oneDNN 2.6 wants the shift too
                     {{DNNL_ARG_SRC, rows},
                      {DNNL_ARG_DIFF_DST, rows},
                      {DNNL_ARG_DIFF_SRC, rows},
                      {DNNL_ARG_MEAN, forward.mean_desc()},
                      {DNNL_ARG_VARIANCE, forward.variance_desc()},
                      {DNNL_ARG_DIFF_SCALE, row},
                      {DNNL_ARG_DIFF_SHIFT, row}}};
  }

  std::string state_;
  Workers& workers_;
  Weights& gradients_;
  Buffer x_, y_, dy_, dx_;
  int64_t channels_;
  Cut cut_;
  AlignedBuffer<float> mean_, variance_;    ///< of each token
  AlignedBuffer<float> d_scale_, d_shift_;  ///< [pieces, channels]
  Both full_, last_;
};

/// The primitives of GELU for some numbers in a row.
struct GeluPieces {
  GeluPieces(OneDnn& onednn, ElementType type, int64_t numbers) {
    constexpr auto gelu = dnnl::algorithm::eltwise_gelu_erf;
    const memory::desc row({numbers}, dnnl_type(type), memory::format_tag::a);
    const dnnl::eltwise_forward::primitive_desc there({dnnl::prop_kind::forward_training, gelu, row, 0, 0},
                                                      OneDnn::attributes(), onednn.engine());
    const dnnl::eltwise_backward::primitive_desc back({gelu, row, row, 0, 0}, OneDnn::attributes(), onednn.engine(),
                                                      there);
    forward = {
        onednn, dnnl::eltwise_forward(there), there.scratchpad_desc(), {}, {{DNNL_ARG_SRC, row}, {DNNL_ARG_DST, row}}};
    backward = {onednn,
                dnnl::eltwise_backward(back),
                back.scratchpad_desc(),
                {},
                {{DNNL_ARG_SRC, row}, {DNNL_ARG_DIFF_DST, row}, {DNNL_ARG_DIFF_SRC, row}}};
  }
  Piece forward, backward;
};

/// Calls body(pieces, first number, worker) for the pieces of a buffer.
template <class Body>
Step for_each_gelu(const Site& site, const Body& body) {
  const Buffer& x = site.x();
  const Cut cut = Cut::about(x.elements(), kPieceNumbers);
  return [&workers = site.backend.workers, cut, body, full = GeluPieces(site.backend.onednn, x.type, cut.piece),
          last = GeluPieces(site.backend.onednn, x.type, cut.size(cut.pieces() - 1))] {
    workers.for_each(cut.pieces(),
                     [&](int64_t i, int worker) { body(i + 1 < cut.pieces() ? full : last, cut.first(i), worker); });
  };
}

template <class T>
void spread_mean(const Buffer& dy, const Buffer& dx, int64_t b) {
  const int64_t channels = dx.extent.channels, tokens = dx.extent.tokens();
  const T* source = dy.as<T>() + b * channels;
  T* target = dx.as<T>() + b * tokens * channels;
  for (int64_t t = 0; t < tokens; ++t, target += channels) {
    for (int64_t c = 0; c < channels; ++c) {
      target[c] = from_float<T>(to_float(source[c]) / static_cast<float>(tokens));
    }
  }
}

/// The inverse of merging: each token of x is one part of one token of the output.
void split_patches(Workers& workers, const Buffer& dy, const Buffer& dx) {
  const int64_t channels = dx.extent.channels;
  workers.for_each(dx.batch * dx.extent.rows, [&](int64_t task, int) {
    const int64_t b = task / dx.extent.rows, row = task % dx.extent.rows;
    for (int64_t column = 0; column < dx.extent.columns; ++column) {
      const int64_t merged = (b * dy.extent.rows + row / 2) * dy.extent.columns + column / 2;
      const int64_t part = row % 2 + 2 * (column % 2);
      std::copy_n(dy.at((4 * merged + part) * channels), channels * size_of(dx.type),
                  dx.at((task * dx.extent.columns + column) * channels));
    }
  });
}

}  // namespace

Step make_step(const Gelu&, const Site& site) {
  return for_each_gelu(site, [x = site.x(), out = site.output](const GeluPieces& pieces, int64_t first, int worker) {
    pieces.forward.run(worker, {{DNNL_ARG_SRC, x.at(first)}, {DNNL_ARG_DST, out.at(first)}});
  });
}

TrainingSteps make_training_steps(const Gelu& gelu, const BackwardSite& site) {
  const auto backward = [x = site.x(), dy = site.d_output, dx = site.d_inputs.front()](const GeluPieces& pieces,
                                                                                       int64_t first, int worker) {
    pieces.backward.run(
        worker, {{DNNL_ARG_SRC, x.at(first)}, {DNNL_ARG_DIFF_DST, dy.at(first)}, {DNNL_ARG_DIFF_SRC, dx.at(first)}});
  };
  return {make_step(gelu, site.forward), for_each_gelu(site.forward, backward)};
}

TrainingSteps make_training_steps(const LayerNorm& norm, const BackwardSite& site) {
  const auto trained = std::make_shared<TrainedNorm>(norm, site);
  return {[trained] { trained->forward(); }, [trained] { trained->backward(); }};
}

TrainingSteps make_training_steps(const MergePatches& merge, const BackwardSite& site) {
  return {make_step(merge, site.forward), [&workers = site.forward.backend.workers, dy = site.d_output,
                                           dx = site.d_inputs.front()] { split_patches(workers, dy, dx); }};
}

TrainingSteps make_training_steps(const Mean& mean, const BackwardSite& site) {
  return {make_step(mean, site.forward), for_type(site.d_output, [&](auto element) -> Step {
            return [&workers = site.forward.backend.workers, dy = site.d_output, dx = site.d_inputs.front()] {
              workers.for_each(dx.batch, [&](int64_t b, int) { spread_mean<decltype(element)>(dy, dx, b); });
            };
          })};
}

}  // namespace nalab::models
