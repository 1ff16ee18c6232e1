#include <algorithm>
#include <map>
#include <memory>
#include <tuple>

#include "models/layers/layers.h"

namespace nalab::models {

namespace {

/// Multiply-adds of a piece, and its fewest rows: rows at its edges are read twice.
constexpr int64_t kPieceCost = 32'000'000;
constexpr int64_t kFewestRows = 4;

/// Rows of the output that are computed at once, and the rows of the image that they need.
struct Strip {
  int64_t first_row = 0, rows = 0;      ///< of the output
  int64_t first_input = 0, inputs = 0;  ///< rows of the image
  int64_t zeros_above = 0, zeros_below = 0;

  auto shape() const { return std::tuple(rows, inputs, zeros_above, zeros_below); }
};

Strip strip_of(const Convolution& convolution, const Extent& image, int64_t first_row, int64_t rows) {
  const int64_t from = first_row * convolution.stride - convolution.before;
  const int64_t to = from + (rows - 1) * convolution.stride + convolution.kernel;
  const int64_t first = std::max<int64_t>(from, 0), end = std::min(to, image.rows);
  return {first_row, rows, first, end - first, first - from, to - end};
}

class Strips {
 public:
  Strips(const Convolution& convolution, const Site& site)
      : workers_(site.backend.workers), x_(site.x()), out_(site.output) {
    const Extent &image = site.x().extent, &out = site.output.extent;
    const int64_t row_cost = out.columns * out.channels * image.channels * convolution.kernel * convolution.kernel;
    const Cut cut =
        Cut::about(out.rows, std::clamp(kPieceCost / row_cost, kFewestRows, std::max(kFewestRows, out.rows)));
    const memory::dims dims{out.channels, image.channels, convolution.kernel, convolution.kernel};
    Packed weight(site.constants, [name = convolution.state + ".weight"](const Weights& w) { return w.at(name); },
                  {dims, memory::data_type::f32, memory::format_tag::oihw});
    for (int64_t i = 0; i < cut.pieces(); ++i) {
      const Strip strip = strip_of(convolution, image, cut.first(i), cut.size(i));
      strips_.push_back(strip);
      if (!pieces_.contains(strip.shape())) pieces_.emplace(strip.shape(), piece(convolution, site, strip, weight));
    }
  }

  void operator()() const {
    const auto count = std::ssize(strips_);
    workers_.for_each(out_.batch * count, [&](int64_t task, int worker) {
      const Strip& strip = strips_[static_cast<std::size_t>(task % count)];
      const int64_t source = ((task / count) * x_.extent.rows + strip.first_input) * x_.extent.columns;
      const int64_t target = ((task / count) * out_.extent.rows + strip.first_row) * out_.extent.columns;
      pieces_.at(strip.shape())
          .run(worker, {{DNNL_ARG_SRC, x_.at(source * x_.extent.channels)},
                        {DNNL_ARG_DST, out_.at(target * out_.extent.channels)}});
    });
  }

 private:
  static Piece piece(const Convolution& convolution, const Site& site, const Strip& strip, Packed& packed) {
    OneDnn& onednn = site.backend.onednn;
    const Buffer &x = site.x(), &out = site.output;
    const int64_t in = x.extent.channels, channels = out.extent.channels, kernel = convolution.kernel;
    const memory::dims weight_dims{channels, in, kernel, kernel}, strides(2, convolution.stride);
    const memory::dims above{strip.zeros_above, convolution.before};
    // On the right oneDNN takes just the zeros that the last column needs.
    const int64_t right =
        (out.extent.columns - 1) * convolution.stride + kernel - convolution.before - x.extent.columns;
    const memory::dims below{strip.zeros_below, right};
    const auto image = [](const Buffer& buffer, int64_t rows) {
      return memory::desc({1, buffer.extent.channels, rows, buffer.extent.columns}, dnnl_type(buffer.type),
                          memory::format_tag::nhwc);
    };
    const memory::desc source = image(x, strip.inputs), target = image(out, strip.rows);
    const memory::desc weight(weight_dims, dnnl_type(x.type), memory::format_tag::any);
    const memory::desc bias =
        convolution.bias ? memory::desc({channels}, memory::data_type::f32, memory::format_tag::a) : memory::desc();
    const dnnl::convolution_forward::primitive_desc primitive(
        {dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, source, weight, bias, target, strides,
         above, below},
        OneDnn::attributes(), onednn.engine());
    std::unordered_map<int, memory> fixed{{DNNL_ARG_WEIGHTS, packed.as(primitive.weights_desc())}};
    if (convolution.bias) fixed.emplace(DNNL_ARG_BIAS, site.row(convolution.state + ".bias"));
    return {onednn,
            dnnl::convolution_forward(primitive),
            primitive.scratchpad_desc(),
            fixed,
            {{DNNL_ARG_SRC, source}, {DNNL_ARG_DST, target}}};
  }

  Workers& workers_;
  Buffer x_, out_;
  std::vector<Strip> strips_;
  std::map<std::tuple<int64_t, int64_t, int64_t, int64_t>, Piece> pieces_;
};

}  // namespace

Step make_step(const Convolution& convolution, const Site& site) {
  return [strips = std::make_shared<const Strips>(convolution, site)] { (*strips)(); };
}

}  // namespace nalab::models
