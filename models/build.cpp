#include "models/build.h"

#include "core/error.h"

namespace nalab::models {

namespace {

/// The last layer of a branch: its result is added to x.
Value close_branch(Graph& graph, const Block& block, const char* layer, const char* gamma, Value x, Value branch) {
  Linear linear{.state = block.state + layer};
  if (block.layer_scale > 0) {
    linear.gamma = block.state + gamma;
    linear.gamma_initial = block.layer_scale;
  }
  return graph.linear(branch, linear, block.channels, x);
}

}  // namespace

Value add_attention(Graph& graph, const Block& block, Value x, Value normed) {
  const Value qkv = graph.linear(normed, {.state = block.state + "attn.qkv"}, 3 * block.channels);
  return close_branch(graph, block, "attn.proj", "gamma1", x, graph.attention(qkv, block.attention));
}

Value add_mlp(Graph& graph, const Block& block, Value x, Value normed, bool training) {
  const Linear fc1{.state = block.state + "mlp.fc1", .activation = training ? Activation::none : Activation::gelu};
  Value hidden = graph.linear(normed, fc1, block.hidden);
  if (training) hidden = graph.gelu(hidden);
  return close_branch(graph, block, "mlp.fc2", "gamma2", x, hidden);
}

Graph build(const Definition& definition, const BuildOptions& options) {
  try {
    return definition.is_classifier() ? build_classifier(definition, options) : build_generator(definition, options);
  } catch (const Error& error) {
    throw Error("model " + definition.name + ": " + error.what());
  }
}

}  // namespace nalab::models
