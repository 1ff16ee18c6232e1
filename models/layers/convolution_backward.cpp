// Convolutions backward, image by image: the gradients of weights are added up in a few slices of the batch.
#include <memory>

#include "models/layers/training.h"

namespace nalab::models {

namespace {

constexpr int64_t kMostSlices = 8;

class ConvolutionBackward {
 public:
  ConvolutionBackward(const Convolution& convolution, const BackwardSite& site)
      : convolution_(convolution),
        workers_(site.forward.backend.workers),
        gradients_(site.gradients),
        x_(site.x()),
        dy_(site.d_output),
        dx_(site.d_inputs.front()),
        images_(Cut::about(x_.batch, (x_.batch + kMostSlices - 1) / kMostSlices)),
        bias_partial_(column_slices(dy_.tokens()) * dy_.extent.channels) {
    OneDnn& onednn = site.forward.backend.onednn;
    const int64_t in = x_.extent.channels, out = dy_.extent.channels, kernel = convolution.kernel;
    const memory::dims dims{out, in, kernel, kernel}, strides(2, convolution.stride), before(2, convolution.before);
    const memory::dims after{missing(x_.extent.rows, dy_.extent.rows), missing(x_.extent.columns, dy_.extent.columns)};
    const memory::desc source = image(x_), target = image(dy_);
    const memory::desc weight(dims, dnnl_type(x_.type), memory::format_tag::any);
    const memory::desc weight_gradient(dims, memory::data_type::f32, memory::format_tag::any);
    constexpr auto direct = dnnl::algorithm::convolution_direct;
    const dnnl::convolution_forward::primitive_desc forward(
        {dnnl::prop_kind::forward_training, direct, source, weight, target, strides, before, after}, onednn.engine());
    const dnnl::convolution_backward_weights::primitive_desc weights(
        {direct, source, weight_gradient, target, strides, before, after}, OneDnn::attributes(), onednn.engine(),
        forward);
    packed_ = weights.diff_weights_desc();
    of_one_ = AlignedBuffer<float>(workers_.threads() * packed_size());
    partial_ = AlignedBuffer<float>(images_.pieces() * packed_size());
    sum_ = AlignedBuffer<float>(packed_size());
    plain_ = {dims, memory::data_type::f32, memory::format_tag::oihw};
    engine_ = onednn.engine();
    weight_piece_ = {onednn,
                     dnnl::convolution_backward_weights(weights),
                     weights.scratchpad_desc(),
                     {},
                     {{DNNL_ARG_SRC, source}, {DNNL_ARG_DIFF_DST, target}, {DNNL_ARG_DIFF_WEIGHTS, packed_}}};
    if (dx_.data == nullptr) return;
    const dnnl::convolution_backward_data::primitive_desc data({direct, source, weight, target, strides, before, after},
                                                               OneDnn::attributes(), onednn.engine(), forward);
    Packed packed(
        site.forward.constants, [name = convolution.state + ".weight"](const Weights& w) { return w.at(name); },
        plain_);
    data_piece_ = {onednn,
                   dnnl::convolution_backward_data(data),
                   data.scratchpad_desc(),
                   {{DNNL_ARG_WEIGHTS, packed.as(data.weights_desc())}},
                   {{DNNL_ARG_DIFF_SRC, source}, {DNNL_ARG_DIFF_DST, target}}};
  }

  void operator()() {
    if (dx_.data != nullptr) {
      workers_.for_each(x_.batch, [&](int64_t b, int worker) {
        data_piece_.run(worker, {{DNNL_ARG_DIFF_SRC, image_of(dx_, b)}, {DNNL_ARG_DIFF_DST, image_of(dy_, b)}});
      });
    }
    workers_.for_each(images_.pieces(), [&](int64_t slice, int worker) { add_images(slice, worker); });
    add_up(workers_, partial_.data(), images_.pieces(), packed_size(), sum_.data());
    unpack();
    if (convolution_.bias) {
      add_columns(workers_, dy_, bias_partial_.data(), gradients_.at(convolution_.state + ".bias").data());
    }
  }

 private:
  /// Zeros that oneDNN is to see after the last row or column: just those that are read.
  int64_t missing(int64_t size, int64_t out) const {
    return (out - 1) * convolution_.stride + convolution_.kernel - convolution_.before - size;
  }
  static memory::desc image(const Buffer& buffer) {
    const Extent& e = buffer.extent;
    return {{1, e.channels, e.rows, e.columns}, dnnl_type(buffer.type), memory::format_tag::nhwc};
  }
  static std::byte* image_of(const Buffer& buffer, int64_t b) { return buffer.at(b * buffer.extent.elements()); }
  int64_t packed_size() const { return static_cast<int64_t>(packed_.get_size() / sizeof(float)); }

  void add_images(int64_t slice, int worker) {
    const int64_t size = packed_size();
    float* const sum = partial_.data() + slice * size;
    float* const one = of_one_.data() + worker * size;
    for (int64_t i = 0; i < images_.size(slice); ++i) {
      const int64_t b = images_.first(slice) + i;
      weight_piece_.run(worker, {{DNNL_ARG_SRC, image_of(x_, b)},
                                 {DNNL_ARG_DIFF_DST, image_of(dy_, b)},
                                 {DNNL_ARG_DIFF_WEIGHTS, i == 0 ? sum : one}});
      if (i == 0) continue;
      for (int64_t j = 0; j < size; ++j) sum[j] += one[j];
    }
  }

  void unpack() {
    const OneThread here;
    memory from(packed_, engine_, sum_.data());
    memory to(plain_, engine_, gradients_.at(convolution_.state + ".weight").data());
    dnnl::stream stream(engine_);
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
  }

  Convolution convolution_;
  Workers& workers_;
  Weights& gradients_;
  Buffer x_, dy_, dx_;
  Cut images_;  ///< of the batch, by slices
  AlignedBuffer<float> bias_partial_;
  AlignedBuffer<float> partial_, of_one_, sum_;  ///< gradients of weights: of slices, of an image by worker, of all
  memory::desc packed_, plain_;
  dnnl::engine engine_;
  Piece weight_piece_, data_piece_;
};

}  // namespace

TrainingSteps make_training_steps(const Convolution& convolution, const BackwardSite& site) {
  return {make_step(convolution, site.forward),
          [backward = std::make_shared<ConvolutionBackward>(convolution, site)] { (*backward)(); }};
}

}  // namespace nalab::models
