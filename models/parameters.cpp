#include "models/parameters.h"

#include <cmath>
#include <functional>
#include <numeric>
#include <variant>

namespace nalab::models {

namespace {

using Kind = Initial::Kind;

/// Collects the parameters of each operation.
class Collector {
 public:
  explicit Collector(const Graph& graph) : graph_(graph) {}

  std::vector<Parameter> collect() {
    for (const Node& node : graph_.nodes()) {
      std::visit([&](const auto& operation) { add(operation, node); }, node.operation);
    }
    return std::move(parameters_);
  }

 private:
  const Extent& input(const Node& node) const { return graph_.node(node.inputs.front()).extent; }

  void add(const Convolution& convolution, const Node& node) {
    const int64_t in = input(node).channels, out = node.extent.channels, kernel = convolution.kernel;
    const Initial initial{Kind::uniform, 1 / std::sqrt(static_cast<double>(in * kernel * kernel))};
    parameters_.push_back({convolution.state + ".weight", {out, in, kernel, kernel}, initial});
    if (convolution.bias) parameters_.push_back({convolution.state + ".bias", {out}, initial});
  }

  void add(const Linear& linear, const Node& node) {
    const int64_t in = input(node).channels, out = node.extent.channels;
    std::vector<int64_t> shape{out, in};
    if (linear.is_convolution) shape.insert(shape.end(), {1, 1});
    parameters_.push_back({linear.state + ".weight", shape, {Kind::normal, linear.deviation}});
    if (linear.bias) parameters_.push_back({linear.state + ".bias", {out}});
    if (!linear.second_bias.empty()) parameters_.push_back({linear.second_bias, {1, out, 1, 1}});
    if (!linear.gamma.empty()) parameters_.push_back({linear.gamma, {out}, {Kind::constant, linear.gamma_initial}});
  }

  void add(const LayerNorm& norm, const Node& node) {
    parameters_.push_back({norm.state + ".weight", {node.extent.channels}, {Kind::constant, 1}});
    parameters_.push_back({norm.state + ".bias", {node.extent.channels}});
  }

  void add(const Attention& attention, const Node&) {
    const int64_t offsets = 2 * attention.window - 1;
    for (const HeadGroup& group : attention.groups) {
      if (!group.rpb.empty()) parameters_.push_back({group.rpb, {group.heads, offsets, offsets}, {Kind::normal, 0.02}});
    }
  }

  void add(const Constant& constant, const Node& node) {
    const Extent& e = node.extent;
    parameters_.push_back({constant.state, {1, e.channels, e.rows, e.columns}, {Kind::normal, 1}});
  }

  void add(const AddPositions& positions, const Node&) { parameters_.push_back({positions.state, {1}}); }

  template <class OperationWithoutParameters>
  void add(const OperationWithoutParameters&, const Node&) {}

  const Graph& graph_;
  std::vector<Parameter> parameters_;
};

constexpr int64_t kNormCost = 5;

/// Multiply-adds of one node.
class Counter {
 public:
  Counter(const Graph& graph, const Node& node)
      : input_(node.inputs.empty() ? node.extent : graph.node(node.inputs.front()).extent), out_(node.extent) {}

  int64_t operator()(const Convolution& c) const { return out_.elements() * input_.channels * c.kernel * c.kernel; }
  int64_t operator()(const Linear&) const { return out_.elements() * input_.channels; }
  int64_t operator()(const LayerNorm&) const { return kNormCost * out_.elements(); }
  int64_t operator()(const InstanceNorm&) const { return kNormCost * out_.elements(); }
  int64_t operator()(const Mean&) const { return input_.elements(); }
  int64_t operator()(const Attention& a) const {
    const int64_t keys = a.window * a.window;
    int64_t biases = 0;
    for (const HeadGroup& group : a.groups) biases += group.rpb.empty() ? 0 : group.heads;
    return out_.tokens() * keys * (2 * out_.channels + biases);
  }
  template <class FreeOperation>
  int64_t operator()(const FreeOperation&) const {
    return 0;
  }

 private:
  const Extent& input_;
  const Extent& out_;
};

}  // namespace

int64_t Parameter::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>{});
}

std::vector<Parameter> parameters(const Graph& graph) { return Collector(graph).collect(); }

int64_t parameter_count(const Graph& graph) {
  int64_t count = 0;
  for (const Parameter& parameter : parameters(graph)) count += parameter.elements();
  return count;
}

MultiplyAdds multiply_adds(const Graph& graph) {
  MultiplyAdds sum;
  for (const Node& node : graph.nodes()) {
    const int64_t cost = std::visit(Counter(graph, node), node.operation);
    sum.all += cost;
    if (std::holds_alternative<Attention>(node.operation)) sum.attention += cost;
  }
  return sum;
}

}  // namespace nalab::models
