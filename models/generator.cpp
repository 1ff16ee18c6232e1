// The generator of StyleNAT (2211.05770): latents to images.
#include <cmath>
#include <cstddef>
#include <optional>

#include "models/build.h"

namespace nalab::models {

namespace {

/// Layers of the style network, the multiplier of their learning rate, and the side of the first level.
constexpr int kStyleLayers = 8;
constexpr double kStyleRate = 0.01;
constexpr int64_t kFirstSide = 4;

class Builder {
 public:
  Builder(const Definition& definition, const BuildOptions& options) : definition_(definition), options_(options) {}

  Graph build() {
    style_network();
    Value x = graph_.constant("input.input", {kFirstSide, kFirstSide, definition_.channels.front()});
    std::optional<Value> image;
    const std::size_t levels = definition_.depths.size();
    for (std::size_t i = 0; i < levels; ++i) {
      const std::string level = "layers." + std::to_string(i) + ".";
      for (int64_t j = 0; j < definition_.depths[i]; ++j) x = block(x, level + "blocks." + std::to_string(j) + ".", i);
      const bool last = i + 1 == levels;
      if (!last) x = upsample(x, level + "upsample.", definition_.channels[i + 1]);
      if (image && !last) image = graph_.upsample_by_filter(*image);
      image = to_rgb(x, "to_rgbs." + std::to_string(i) + ".", image);
    }
    return std::move(graph_);
  }

 private:
  /// Weights are stored divided by the learning rate's multiplier, and multiplied by it and by 1 / sqrt(inputs).
  double equalized(double rate = 1) const { return rate / std::sqrt(static_cast<double>(definition_.style)); }

  void style_network() {
    style_ = graph_.pixel_norm(graph_.input({1, 1, definition_.style}, Precision::full));
    for (int i = 1; i <= kStyleLayers; ++i) {
      style_ = graph_.linear(style_,
                             {.state = "style." + std::to_string(i),
                              .activation = Activation::leaky_relu,
                              .weight_factor = equalized(kStyleRate),
                              .bias_factor = kStyleRate,
                              .deviation = 1 / kStyleRate},
                             definition_.style, {}, Precision::full);
    }
  }

  /// Adaptive instance norm.
  Value norm(Value x, const std::string& state) {
    const Linear linear{.state = state + ".style", .weight_factor = equalized(), .deviation = 1};
    const Value style = graph_.linear(style_, linear, 2 * graph_.node(x).extent.channels, {}, Precision::full);
    return graph_.instance_norm(x, style);
  }

  /// 4x4: self attention. 8x8: one window of all heads. Larger: two halves of heads, without and with dilation.
  Attention attention(const std::string& state, std::size_t level) const {
    const int64_t heads = definition_.heads[level], side = kFirstSide << level;
    const auto table = [&](const char* name) { return options_.relative_bias ? state + name : ""; };
    if (level == 0) return {side, {{.rpb = table("attn.rpb"), .heads = heads}}};
    const int64_t dilation = definition_.dilation.empty() ? 1 : definition_.dilation[level];
    if (dilation == 1) return {definition_.window, {{.rpb = table("attn.rpb.0"), .heads = heads}}};
    return {definition_.window,
            {{.rpb = table("attn.rpb.0"), .heads = heads / 2, .dilation = 1},
             {.rpb = table("attn.rpb.1"), .heads = heads / 2, .dilation = dilation}}};
  }

  Value block(Value x, const std::string& state, std::size_t level) {
    const int64_t channels = definition_.channels[level];
    const Block block{.state = state,
                      .channels = channels,
                      .hidden = static_cast<int64_t>(static_cast<double>(channels) * definition_.mlp_ratio),
                      .attention = attention(state, level)};
    x = add_attention(graph_, block, x, norm(x, state + "norm1"));
    return add_mlp(graph_, block, x, norm(x, state + "norm2"));
  }

  Value upsample(Value x, const std::string& state, int64_t channels) {
    x = graph_.layer_norm(graph_.upsample(x), state + "norm");
    x = graph_.linear(x, {.state = state + "reduction", .bias = false}, channels);
    return graph_.add_positions(x, state + "alpha");
  }

  Value to_rgb(Value x, const std::string& state, std::optional<Value> skip) {
    // Xavier's deviation for 3 outputs, with a gain of 0.02.
    const auto channels = static_cast<double>(graph_.node(x).extent.channels);
    const Linear linear{.state = state + "conv",
                        .second_bias = state + "bias",
                        .is_convolution = true,
                        .deviation = 0.02 * std::sqrt(2 / (channels + 3))};
    return graph_.linear(x, linear, 3, skip, Precision::full);
  }

  const Definition& definition_;
  const BuildOptions& options_;
  Graph graph_;
  Value style_ = 0;
};

}  // namespace

Graph build_generator(const Definition& definition, const BuildOptions& options) {
  return Builder(definition, options).build();
}

}  // namespace nalab::models
