#include "models/graph.h"

#include <utility>

#include "core/error.h"

namespace nalab::models {

int64_t Attention::heads() const {
  int64_t all = 0;
  for (const HeadGroup& group : groups) all += group.heads;
  return all;
}

Value Graph::add(Operation operation, std::vector<Value> inputs, const Extent& extent, Precision precision) {
  nodes_.push_back({std::move(operation), std::move(inputs), extent, precision});
  return output();
}

Value Graph::input(const Extent& extent, Precision precision) { return add(Input{}, {}, extent, precision); }

Value Graph::convolution(Value x, const Convolution& convolution, int64_t channels) {
  const Extent& in = node(x).extent;
  const auto extent = [&](int64_t size, int64_t after) {
    return (size + convolution.before + after - convolution.kernel) / convolution.stride + 1;
  };
  return add(convolution, {x},
             {extent(in.rows, convolution.after[0]), extent(in.columns, convolution.after[1]), channels});
}

Value Graph::linear(Value x, const Linear& linear, int64_t channels, std::optional<Value> residual,
                    Precision precision) {
  const Extent& in = node(x).extent;
  std::vector<Value> inputs{x};
  if (residual) inputs.push_back(*residual);
  return add(linear, std::move(inputs), {in.rows, in.columns, channels}, precision);
}

Value Graph::gelu(Value x) { return add(Gelu{}, {x}, node(x).extent); }

Value Graph::layer_norm(Value x, const std::string& state) { return add(LayerNorm{state}, {x}, node(x).extent); }

Value Graph::attention(Value x, const Attention& attention) {
  const Extent& in = node(x).extent;
  for (const HeadGroup& group : attention.groups) {
    const int64_t needed = attention.window * group.dilation;
    if (in.rows < needed || in.columns < needed) {
      throw Error("attention with window " + std::to_string(attention.window) + " and dilation " +
                  std::to_string(group.dilation) + " needs at least " + std::to_string(needed) + "x" +
                  std::to_string(needed) + " tokens, and has " + std::to_string(in.rows) + "x" +
                  std::to_string(in.columns));
    }
  }
  return add(attention, {x}, {in.rows, in.columns, in.channels / 3});
}

Value Graph::merge_patches(Value x) {
  const Extent& in = node(x).extent;
  return add(MergePatches{}, {x}, {(in.rows + 1) / 2, (in.columns + 1) / 2, 4 * in.channels});
}

Value Graph::mean(Value x) { return add(Mean{}, {x}, {1, 1, node(x).extent.channels}); }

Value Graph::constant(const std::string& state, const Extent& extent) { return add(Constant{state}, {}, extent); }

Value Graph::pixel_norm(Value x) { return add(PixelNorm{}, {x}, node(x).extent, Precision::full); }

Value Graph::instance_norm(Value x, Value style) { return add(InstanceNorm{}, {x, style}, node(x).extent); }

Value Graph::upsample(Value x) {
  const Extent& in = node(x).extent;
  return add(Upsample{}, {x}, {2 * in.rows, 2 * in.columns, in.channels});
}

Value Graph::add_positions(Value x, const std::string& state) { return add(AddPositions{state}, {x}, node(x).extent); }

Value Graph::upsample_by_filter(Value x) {
  const Extent& in = node(x).extent;
  return add(UpsampleByFilter{}, {x}, {2 * in.rows, 2 * in.columns, in.channels}, Precision::full);
}

}  // namespace nalab::models
