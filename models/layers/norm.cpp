// Norms: over the channels of a token by oneDNN; the two of StyleGAN, which it lacks, by loops of our own.
#include <algorithm>
#include <cmath>

#include "models/layers/layers.h"

namespace nalab::models {

namespace {

constexpr float kEpsilon = 1e-5F;
/// Numbers of a piece of a layer norm: they fit in the second-level cache.
constexpr int64_t kPieceNumbers = 1 << 16;
/// Tokens that are added up at a time: a fixed number, so that sums do not depend on the number of threads.
constexpr int64_t kSlice = 1024;

/// Adds to target [channels] what term(value, channel) gives for each number of some tokens.
template <class T, class Term>
void add_terms(const T* tokens, int64_t count, int64_t channels, double* target, const Term& term) {
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t c = 0; c < channels; ++c)
      target[c] += term(static_cast<double>(to_float(tokens[t * channels + c])), c);
  }
}

/// Instance norm of a batch, in slices of tokens.
template <class T>
class InstanceNormOf {
 public:
  explicit InstanceNormOf(const Site& site)
      : workers_(site.backend.workers),
        x_(site.x().as<T>()),
        style_(site.inputs[1].as<float>()),
        out_(site.output.as<T>()),
        batch_(site.output.batch),
        tokens_(site.output.extent.tokens()),
        channels_(site.output.extent.channels),
        slices_((tokens_ + kSlice - 1) / kSlice),
        partial_(static_cast<std::size_t>(batch_ * slices_ * channels_)),
        mean_(static_cast<std::size_t>(batch_ * channels_)),
        variance_(mean_.size()) {}

  void operator()() {
    average(mean_, [](double value, double) { return value; });
    average(variance_, [](double value, double mean) { return (value - mean) * (value - mean); });
    workers_.for_each(batch_ * slices_, [this](int64_t task, int) { normalize(task / slices_, task % slices_); });
  }

 private:
  int64_t in_slice(int64_t slice) const { return std::min(kSlice, tokens_ - slice * kSlice); }
  const T* slice_of(int64_t b, int64_t slice) const { return x_ + (b * tokens_ + slice * kSlice) * channels_; }

  /// Averages over the tokens what term(value, mean of the channel) gives.
  template <class Term>
  void average(std::vector<double>& target, const Term& term) {
    std::fill(partial_.begin(), partial_.end(), 0.0);
    workers_.for_each(batch_ * slices_, [&](int64_t task, int) {
      const double* mean = mean_.data() + task / slices_ * channels_;
      add_terms(slice_of(task / slices_, task % slices_), in_slice(task % slices_), channels_,
                partial_.data() + task * channels_, [&](double value, int64_t c) { return term(value, mean[c]); });
    });
    for (int64_t b = 0; b < batch_; ++b) {
      for (int64_t c = 0; c < channels_; ++c) {
        double sum = 0;
        for (int64_t s = 0; s < slices_; ++s)
          sum += partial_[static_cast<std::size_t>((b * slices_ + s) * channels_ + c)];
        target[static_cast<std::size_t>(b * channels_ + c)] = sum / static_cast<double>(tokens_);
      }
    }
  }

  void normalize(int64_t b, int64_t slice) {
    const T* x = slice_of(b, slice);
    T* out = out_ + (x - x_);
    const float* gamma = style_ + 2 * b * channels_;
    const float* beta = gamma + channels_;
    std::vector<float> mean(static_cast<std::size_t>(channels_)), factor(mean.size());
    for (int64_t c = 0; c < channels_; ++c) {
      const auto i = static_cast<std::size_t>(b * channels_ + c), j = static_cast<std::size_t>(c);
      mean[j] = static_cast<float>(mean_[i]);
      factor[j] = static_cast<float>(gamma[c] / std::sqrt(variance_[i] + static_cast<double>(kEpsilon)));
    }
    const float* m = mean.data();
    const float* f = factor.data();
    for (int64_t t = 0; t < in_slice(slice); ++t, x += channels_, out += channels_) {
      for (int64_t c = 0; c < channels_; ++c) out[c] = from_float<T>((to_float(x[c]) - m[c]) * f[c] + beta[c]);
    }
  }

  Workers& workers_;
  const T* x_;
  const float* style_;
  T* out_;
  int64_t batch_, tokens_, channels_, slices_;
  std::vector<double> partial_, mean_, variance_;
};

}  // namespace

Step make_step(const LayerNorm& norm, const Site& site) {
  using dnnl::normalization_flags;
  OneDnn& onednn = site.backend.onednn;
  const int64_t channels = site.output.extent.channels;
  const Cut cut = Cut::about(site.output.tokens(), std::max<int64_t>(1, kPieceNumbers / channels));
  const auto piece = [&](int64_t tokens) -> Piece {
    const memory::desc rows = matrix_desc(site.x().type, tokens, channels, channels);
    const dnnl::layer_normalization_forward::primitive_desc primitive(
        {dnnl::prop_kind::forward_inference, rows, kEpsilon,
         normalization_flags::use_scale | normalization_flags::use_shift},
        OneDnn::attributes(), onednn.engine());
    return {onednn,
            dnnl::layer_normalization_forward(primitive),
            primitive.scratchpad_desc(),
            {{DNNL_ARG_SCALE, site.row(norm.state + ".weight")}, {DNNL_ARG_SHIFT, site.row(norm.state + ".bias")}},
            {{DNNL_ARG_SRC, rows}, {DNNL_ARG_DST, rows}}};
  };
  const int64_t last = cut.pieces() - 1;
  return [&workers = site.backend.workers, x = site.x(), out = site.output, cut, channels, full = piece(cut.piece),
          rest = piece(cut.size(last)), last] {
    workers.for_each(cut.pieces(), [&](int64_t i, int worker) {
      const int64_t first = cut.first(i) * channels;
      (i < last ? full : rest).run(worker, {{DNNL_ARG_SRC, x.at(first)}, {DNNL_ARG_DST, out.at(first)}});
    });
  };
}

Step make_step(const PixelNorm&, const Site& site) {
  return [x = site.x().as<float>(), out = site.output.as<float>(), tokens = site.output.tokens(),
          channels = site.output.extent.channels] {
    for (int64_t t = 0; t < tokens; ++t) {
      double sum = 0;
      for (int64_t c = 0; c < channels; ++c) sum += static_cast<double>(x[t * channels + c]) * x[t * channels + c];
      const double factor = 1 / std::sqrt(sum / static_cast<double>(channels) + 1e-8);
      for (int64_t c = 0; c < channels; ++c) out[t * channels + c] = static_cast<float>(x[t * channels + c] * factor);
    }
  };
}

Step make_step(const InstanceNorm&, const Site& site) {
  if (site.output.type == ElementType::bf16) return InstanceNormOf<bf16>(site);
  return InstanceNormOf<float>(site);
}

}  // namespace nalab::models
