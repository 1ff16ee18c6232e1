#include <algorithm>
#include <cmath>
#include <memory>

#include "models/layers/layers.h"

namespace nalab::models {

namespace {

/// Argument of the post-operation that adds the residual; its place among them is not fixed.
constexpr int kResidual = -1;

/// Multiply-adds of a piece: some tenths of a millisecond, far more than the call of a primitive.
constexpr int64_t kPieceCost = 16'000'000;
constexpr int64_t kFewestRows = 64, kFewestColumns = 64;
/// Columns are cut as well where rows alone give fewer pieces, if there is work for them.
constexpr int64_t kFewPieces = 8;
/// Rows are cut into a multiple of so many pieces if there are nearly as many: of seven, one of two workers would
/// compute four.
constexpr int64_t kEvenPieces = 4;

Cut cut_rows(int64_t tokens, int64_t wanted) {
  const Cut cut = Cut::about(tokens, wanted);
  if (cut.pieces() < kEvenPieces - 1) return cut;
  const int64_t pieces = (cut.pieces() + kEvenPieces - 1) / kEvenPieces * kEvenPieces;
  return Cut::about(tokens, (tokens + pieces - 1) / pieces);
}

/// Rows of a parameter [out, width] or [out], times a factor and gamma.
std::vector<float> scaled(const Linear& linear, const Weights& weights, const std::vector<float>& parameter,
                          double factor, geometry::Range rows, int64_t width = 1) {
  const float* const gamma = linear.gamma.empty() ? nullptr : weights.at(linear.gamma).data();
  std::vector<float> result(static_cast<std::size_t>(rows.size() * width));
  for (int64_t row = 0; row < rows.size(); ++row) {
    const double scale = gamma == nullptr ? factor : factor * static_cast<double>(gamma[rows.begin + row]);
    const float* const from = parameter.data() + (rows.begin + row) * width;
    std::transform(from, from + width, result.data() + row * width,
                   [scale](float value) { return static_cast<float>(value * scale); });
  }
  return result;
}

/// Some numbers of gamma * (bias_factor b + b2). Requires one of them.
std::vector<float> bias_of(const Linear& linear, const Weights& weights, geometry::Range rows) {
  std::vector<float> bias(static_cast<std::size_t>(rows.size()));
  if (linear.bias) bias = scaled(linear, weights, weights.at(linear.state + ".bias"), linear.bias_factor, rows);
  if (!linear.second_bias.empty()) {
    const std::vector<float> second = scaled(linear, weights, weights.at(linear.second_bias), 1, rows);
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] += second[i];
  }
  return bias;
}

void append(dnnl::post_ops& after, Activation activation) {
  using dnnl::algorithm;
  if (activation == Activation::gelu) after.append_eltwise(1, algorithm::eltwise_gelu_erf, 0, 0);
  if (activation == Activation::leaky_relu) {
    after.append_eltwise(1, algorithm::eltwise_relu, 0.2F, 0);
    after.append_eltwise(1, algorithm::eltwise_linear, std::sqrt(2.0F), 0);
  }
}

/// A matrix product, cut into rows and columns.
class Product {
 public:
  Product(const Linear& linear, const Site& site)
      : linear_(linear), site_(site), in_(site.x().extent.channels), out_(site.output.extent.channels) {
    const int64_t tokens = site.output.tokens();
    rows_ = cut_rows(tokens, std::clamp(kPieceCost / (in_ * out_), kFewestRows, std::max(kFewestRows, tokens)));
    const int64_t worth = tokens * in_ * out_ / (kPieceCost / 4);
    const int64_t wanted = std::min(worth, kFewPieces) / rows_.pieces();
    columns_ = Cut::about(out_, std::max(kFewestColumns, out_ / std::max<int64_t>(1, wanted)));
  }

  Step step() {
    const int64_t row_pieces = rows_.pieces(), last_rows = rows_.size(row_pieces - 1);
    auto full = std::make_shared<std::vector<Piece>>(), last = full;
    if (last_rows != rows_.piece) last = std::make_shared<std::vector<Piece>>();
    for (int64_t c = 0; c < columns_.pieces(); ++c) {
      // Stored as [out, in]: the rows of these columns lie together.
      const geometry::Range rows = columns(c);
      Packed weight(site_.constants,
                    [linear = linear_, rows, in = in_](const Weights& w) { return scaled_weight(linear, w, rows, in); },
                    {{in_, rows.size()}, memory::data_type::f32, memory::format_tag::ba});
      full->push_back(piece(rows_.piece, c, weight));
      if (last != full) last->push_back(piece(last_rows, c, weight));
    }
    const Buffer residual = site_.inputs.size() > 1 ? site_.inputs[1] : Buffer{};
    return [&workers = site_.backend.workers, x = site_.x(), out = site_.output, residual, in = in_, width = out_,
            rows = rows_, columns = columns_, full, last, argument = residual_argument_] {
      const int64_t pieces = rows.pieces();
      workers.for_each(pieces * columns.pieces(), [&](int64_t task, int worker) {
        const int64_t row = task % pieces, column = task / pieces;
        const int64_t target = rows.first(row) * width + columns.first(column);
        const std::vector<Piece>& list = row + 1 < pieces ? *full : *last;
        list[static_cast<std::size_t>(column)].run(
            worker, {{DNNL_ARG_SRC, x.at(rows.first(row) * in)},
                     {DNNL_ARG_DST, out.at(target)},
                     {argument, residual.data == nullptr ? nullptr : residual.at(target)}});
      });
    };
  }

 private:
  geometry::Range columns(int64_t piece) const {
    return {columns_.first(piece), columns_.first(piece) + columns_.size(piece)};
  }

  Piece piece(int64_t rows, int64_t column, Packed& packed) {
    OneDnn& onednn = site_.backend.onednn;
    const geometry::Range outputs = columns(column);
    const memory::desc source = matrix_desc(site_.x().type, rows, in_, in_);
    const memory::desc target = matrix_desc(site_.output.type, rows, outputs.size(), out_);
    const memory::desc weight({in_, outputs.size()}, dnnl_type(site_.x().type), memory::format_tag::any);
    const memory::desc bias({1, outputs.size()}, memory::data_type::f32, memory::format_tag::ab);
    std::unordered_map<int, memory> fixed;
    std::unordered_map<int, memory::desc> varying{{DNNL_ARG_SRC, source}, {DNNL_ARG_DST, target}};

    const bool has_bias = linear_.bias || !linear_.second_bias.empty();
    dnnl::post_ops after;
    append(after, linear_.activation);
    if (site_.inputs.size() > 1) {
      const memory::desc residual = matrix_desc(site_.inputs[1].type, rows, outputs.size(), out_);
      residual_argument_ = DNNL_ARG_ATTR_MULTIPLE_POST_OP(after.len()) | DNNL_ARG_SRC_1;
      varying.emplace(residual_argument_, residual);
      after.append_binary(dnnl::algorithm::binary_add, residual);
    }
    dnnl::primitive_attr attributes = OneDnn::attributes();
    attributes.set_post_ops(after);

    const dnnl::matmul::primitive_desc primitive(
        has_bias ? dnnl::matmul::desc(source, weight, bias, target) : dnnl::matmul::desc(source, weight, target),
        attributes, onednn.engine());
    if (has_bias) {
      fixed.emplace(DNNL_ARG_BIAS, site_.constants.row([linear = linear_, outputs](const Weights& w) {
        return bias_of(linear, w, outputs);
      }));
    }
    fixed.emplace(DNNL_ARG_WEIGHTS, packed.as(primitive.weights_desc()));
    return {onednn, dnnl::matmul(primitive), primitive.scratchpad_desc(), fixed, varying};
  }

  const Linear& linear_;
  const Site& site_;
  int64_t in_, out_;
  Cut rows_, columns_;
  int residual_argument_ = kResidual;
};

}  // namespace

std::vector<float> scaled_weight(const Linear& linear, const Weights& weights, geometry::Range rows, int64_t in) {
  return scaled(linear, weights, weights.at(linear.state + ".weight"), linear.weight_factor, rows, in);
}

Step make_step(const Linear& linear, const Site& site) { return Product(linear, site).step(); }

}  // namespace nalab::models
