// y = residual + gamma * (x W^T + b), backward. With M = dy^T x and s the sums of dy over tokens: dx = dy (gamma W),
// dW = gamma M, db = gamma s, dgamma = sum over inputs of W M, plus b s. So the product before gamma is not kept.
#include <algorithm>
#include <map>
#include <memory>

#include "core/error.h"
#include "models/layers/training.h"

namespace nalab::models {

namespace {

/// As in linear.cpp.
constexpr int64_t kPieceCost = 16'000'000;
constexpr int64_t kFewestRows = 32, kFewestTokens = 256, kFewPieces = 8;
constexpr int64_t kNumbersAtOnce = 1 << 16;

class LinearBackward {
 public:
  LinearBackward(const Linear& linear, const BackwardSite& site)
      : linear_(linear),
        workers_(site.forward.backend.workers),
        weights_(site.forward.weights),
        gradients_(site.gradients),
        x_(site.x()),
        given_dy_(site.d_output),
        dy_(site.d_output),
        dx_(site.d_inputs.front()),
        residual_(site.d_inputs.size() > 1 ? site.d_inputs[1] : Buffer{}),
        in_(x_.extent.channels),
        out_(dy_.extent.channels) {
    if (dy_.type != x_.type) {  // float32 logits of a bf16 model
      rounded_ = AlignedBuffer<bf16>(dy_.elements());
      dy_.data = reinterpret_cast<std::byte*>(rounded_.data());
      dy_.type = x_.type;
    }
    const int64_t tokens = x_.tokens();
    rows_ = Cut::about(tokens, std::clamp(kPieceCost / (in_ * out_), kFewestRows, std::max(kFewestRows, tokens)));
    outputs_ = Cut::about(out_, std::clamp(kPieceCost / (in_ * tokens), std::min(kFewestRows, out_), out_));
    const int64_t slices = std::clamp<int64_t>(kFewPieces / outputs_.pieces(), 1, kFewPieces);
    tokens_ = Cut::about(tokens, std::max(kFewestTokens, (tokens + slices - 1) / slices));
    products_ = AlignedBuffer<float>(tokens_.pieces() * out_ * in_);
    sums_ = AlignedBuffer<float>((column_slices(tokens) + 1) * out_);
    Packed weight = packed_weight(site.forward);
    for (const int64_t rows : {rows_.piece, rows_.size(rows_.pieces() - 1)}) {
      if (!input_pieces_.contains(rows)) input_pieces_.emplace(rows, input_piece(site.forward, weight, rows));
    }
    for (const int64_t outputs : {outputs_.piece, outputs_.size(outputs_.pieces() - 1)}) {
      for (const int64_t count : {tokens_.piece, tokens_.size(tokens_.pieces() - 1)}) {
        const std::pair shape(outputs, count);
        if (!product_pieces_.contains(shape)) product_pieces_.emplace(shape, product_piece(site.forward, shape));
      }
    }
  }

  void operator()() {
    if (dy_.type != given_dy_.type) set_values(dy_, {given_dy_.as<float>(), static_cast<std::size_t>(dy_.elements())});
    if (residual_.data != nullptr) copy_residual();
    if (dx_.data != nullptr) input_gradient();
    products();
    float* const sums = sums_.data() + column_slices(dy_.tokens()) * out_;
    add_columns(workers_, dy_, sums_.data(), sums);
    parameter_gradients(sums);
  }

 private:
  /// gamma W, [out, in].
  Packed packed_weight(const Site& site) const {
    const auto make = [linear = linear_, rows = geometry::Range{0, out_}, in = in_](const Weights& w) {
      return scaled_weight(linear, w, rows, in);
    };
    return {site.constants, make, {{out_, in_}, memory::data_type::f32, memory::format_tag::ab}};
  }

  Piece input_piece(const Site& site, Packed& packed, int64_t rows) const {
    const memory::desc source = matrix_desc(dy_.type, rows, out_, out_), target = matrix_desc(x_.type, rows, in_, in_);
    const memory::desc weight({out_, in_}, dnnl_type(dy_.type), memory::format_tag::any);
    OneDnn& onednn = site.backend.onednn;
    const dnnl::matmul::primitive_desc primitive({source, weight, target}, OneDnn::attributes(), onednn.engine());
    return {onednn,
            dnnl::matmul(primitive),
            primitive.scratchpad_desc(),
            {{DNNL_ARG_WEIGHTS, packed.as(primitive.weights_desc())}},
            {{DNNL_ARG_SRC, source}, {DNNL_ARG_DST, target}}};
  }

  Piece product_piece(const Site& site, std::pair<int64_t, int64_t> shape) const {
    const auto [outputs, tokens] = shape;
    const memory::desc source({outputs, tokens}, dnnl_type(dy_.type), memory::dims{1, out_});
    const memory::desc weight = matrix_desc(x_.type, tokens, in_, in_);
    const memory::desc target = matrix_desc(ElementType::f32, outputs, in_, in_);
    OneDnn& onednn = site.backend.onednn;
    const dnnl::matmul::primitive_desc primitive({source, weight, target}, OneDnn::attributes(), onednn.engine());
    return {onednn,
            dnnl::matmul(primitive),
            primitive.scratchpad_desc(),
            {},
            {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weight}, {DNNL_ARG_DST, target}}};
  }

  void copy_residual() const {
    const Cut cut = Cut::about(dy_.elements(), kNumbersAtOnce);
    workers_.for_each(cut.pieces(), [&](int64_t task, int) {
      std::copy_n(dy_.at(cut.first(task)), cut.size(task) * size_of(dy_.type), residual_.at(cut.first(task)));
    });
  }

  void input_gradient() const {
    workers_.for_each(rows_.pieces(), [&](int64_t task, int worker) {
      const int64_t first = rows_.first(task);
      input_pieces_.at(rows_.size(task))
          .run(worker, {{DNNL_ARG_SRC, dy_.at(first * out_)}, {DNNL_ARG_DST, dx_.at(first * in_)}});
    });
  }

  void products() {
    workers_.for_each(outputs_.pieces() * tokens_.pieces(), [&](int64_t task, int worker) {
      const int64_t o = task % outputs_.pieces(), t = task / outputs_.pieces();
      const int64_t output = outputs_.first(o), token = tokens_.first(t);
      product_pieces_.at({outputs_.size(o), tokens_.size(t)})
          .run(worker, {{DNNL_ARG_SRC, dy_.at(token * out_ + output)},
                        {DNNL_ARG_WEIGHTS, x_.at(token * in_)},
                        {DNNL_ARG_DST, products_.data() + (t * out_ + output) * in_}});
    });
  }

  void parameter_gradients(const float* sums) const {
    const float* w = weights_.at(linear_.state + ".weight").data();
    const float* b = linear_.bias ? weights_.at(linear_.state + ".bias").data() : nullptr;
    const float* gamma = linear_.gamma.empty() ? nullptr : weights_.at(linear_.gamma).data();
    float* dw = gradients_.at(linear_.state + ".weight").data();
    float* db = linear_.bias ? gradients_.at(linear_.state + ".bias").data() : nullptr;
    float* d_gamma = linear_.gamma.empty() ? nullptr : gradients_.at(linear_.gamma).data();
    add_up(workers_, products_.data(), tokens_.pieces(), out_ * in_, dw);
    workers_.for_each(out_, [&](int64_t o, int) {
      const float factor = gamma == nullptr ? 1 : gamma[o];
      if (gamma != nullptr) {
        double sum = b == nullptr ? 0 : static_cast<double>(b[o]) * sums[o];
        for (int64_t i = o * in_; i < (o + 1) * in_; ++i) {
          sum += static_cast<double>(w[i]) * dw[i];
          dw[i] *= factor;
        }
        d_gamma[o] = static_cast<float>(sum);
      }
      if (db != nullptr) db[o] = factor * sums[o];
    });
  }

  Linear linear_;
  Workers& workers_;
  const Weights& weights_;
  Weights& gradients_;
  Buffer x_, given_dy_, dy_, dx_, residual_;
  int64_t in_, out_;
  Cut rows_, outputs_, tokens_;
  AlignedBuffer<bf16> rounded_;    ///< dy in the type of x, if it has another
  AlignedBuffer<float> products_;  ///< [slices of tokens, out, in]
  AlignedBuffer<float> sums_;      ///< [slices + 1, out]
  std::map<int64_t, Piece> input_pieces_;
  std::map<std::pair<int64_t, int64_t>, Piece> product_pieces_;
};

}  // namespace

TrainingSteps make_training_steps(const Linear& linear, const BackwardSite& site) {
  const bool plain = linear.activation == Activation::none && linear.second_bias.empty() && linear.weight_factor == 1 &&
                     linear.bias_factor == 1;
  if (!plain) throw Error("the layer " + linear.state + " has no backward pass");
  return {make_step(linear, site.forward),
          [backward = std::make_shared<LinearBackward>(linear, site)] { (*backward)(); }};
}

}  // namespace nalab::models
