// NAT, DiNAT, DiNATs and the isotropic models: images to logits.
#include <cstddef>

#include "models/build.h"

namespace nalab::models {

namespace {

class Builder {
 public:
  Builder(const Definition& definition, const BuildOptions& options) : definition_(definition), options_(options) {}

  Graph build() {
    const auto side = [&](int64_t given) { return given > 0 ? given : definition_.input; };
    Value x = graph_.input({side(options_.rows), side(options_.columns), 3});
    x = graph_.layer_norm(tokenize(x), "patch_embed.norm");
    for (std::size_t i = 0; i < definition_.depths.size(); ++i) {
      if (i > 0) x = reduce(x, i);
      for (int64_t j = 0; j < definition_.depths[i]; ++j) x = layer(x, i, j);
    }
    x = graph_.mean(graph_.layer_norm(x, "norm"));
    graph_.linear(x, {.state = "head"}, definition_.classes, {}, Precision::full);
    return std::move(graph_);
  }

 private:
  bool has_convolutions() const { return definition_.kind == Kind::nat; }

  Value tokenize(Value x) {
    const int64_t channels = definition_.channels.front();
    if (has_convolutions()) {
      x = graph_.convolution(x, {.state = "patch_embed.proj.0"}, channels / 2);
      return graph_.convolution(x, {.state = "patch_embed.proj.1"}, channels);
    }
    const int64_t patch = definition_.patch;
    const Extent& image = graph_.node(x).extent;
    const auto missing = [patch](int64_t size) { return (patch - size % patch) % patch; };
    return graph_.convolution(x,
                              {.state = "patch_embed.proj",
                               .kernel = patch,
                               .stride = patch,
                               .before = 0,
                               .after = {missing(image.rows), missing(image.columns)}},
                              channels);
  }

  std::string level_state(std::size_t level) const {
    return (has_convolutions() ? "levels." : "layers.") + std::to_string(level) + ".";
  }

  /// From the level before to this one. The norm of a convolution comes after it, that of merged patches before.
  Value reduce(Value x, std::size_t level) {
    const std::string state = level_state(level - 1) + "downsample.";
    const int64_t channels = definition_.channels[level];
    if (has_convolutions()) {
      x = graph_.convolution(x, {.state = state + "reduction", .bias = false}, channels);
      return graph_.layer_norm(x, state + "norm");
    }
    x = graph_.layer_norm(graph_.merge_patches(x), state + "norm");
    return graph_.linear(x, {.state = state + "reduction", .bias = false}, channels);
  }

  Value layer(Value x, std::size_t level, int64_t index) {
    const int64_t channels = definition_.channels[level];
    const bool dilated = index % 2 == 1 && !definition_.dilation.empty();
    Block block{.channels = channels,
                .hidden = static_cast<int64_t>(static_cast<double>(channels) * definition_.mlp_ratio),
                .layer_scale = definition_.layer_scale};
    block.state = definition_.kind == Kind::isotropic ? "layers." + std::to_string(index) + "."
                                                      : level_state(level) + "blocks." + std::to_string(index) + ".";
    block.attention = {definition_.window,
                       {{.rpb = options_.relative_bias ? block.state + "attn.rpb" : "",
                         .heads = definition_.heads[level],
                         .dilation = dilated ? definition_.dilation[level] : 1}}};
    x = add_attention(graph_, block, x, graph_.layer_norm(x, block.state + "norm1"));
    return add_mlp(graph_, block, x, graph_.layer_norm(x, block.state + "norm2"), options_.training);
  }

  const Definition& definition_;
  const BuildOptions& options_;
  Graph graph_;
};

}  // namespace

Graph build_classifier(const Definition& definition, const BuildOptions& options) {
  return Builder(definition, options).build();
}

}  // namespace nalab::models
