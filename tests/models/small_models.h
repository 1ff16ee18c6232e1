// Small models of all kinds, with every kind of layer, and weights for which all of them matter.
#pragma once

#include <cmath>
#include <iterator>
#include <string>
#include <vector>

#include "models/build.h"
#include "models/weights.h"

namespace nalab::models {

inline Definition small_model(const std::string& name) {
  static const char* const text = R"(
models:
  - {name: nat, kind: nat, depths: [2, 1], heads: [1, 2], channels: [32, 64], window: 3, dilation: [2, 1], mlp_ratio: 3,
     layer_scale: 1, classes: 10, input: 26}
  - {name: dinats, kind: dinats, depths: [2, 2], heads: [1, 2], channels: [32, 64], window: 3, dilation: [2, 1],
     classes: 10, input: 27}
  - {name: isotropic, kind: isotropic, depths: [2], heads: [2], channels: [64], patch: 4, window: 3, dilation: [2],
     classes: 10, input: 27}
  - {name: stylenat, kind: stylenat, depths: [2, 2, 2], heads: [4, 2, 2], channels: [32, 16, 16], dilation: [1, 1, 2],
     input: 16, style: 32}
)";
  return find_definition(parse_definitions("small", text), name);
}

/// The papers' weights, with numbers that matter where those are 0 or hardly more.
inline Weights small_weights(const Graph& graph) {
  std::vector<Parameter> list = parameters(graph);
  for (Parameter& parameter : list) {
    // Layer scale and the scales of norms.
    if (parameter.initial.value == 1) parameter.initial.kind = Initial::Kind::normal;
    if (parameter.name.ends_with("rpb")) parameter.initial.value = 1;
    if (parameter.name.ends_with("alpha")) parameter.initial = {Initial::Kind::constant, 0.5};
    if (parameter.initial.value == 0.02) parameter.initial.value = 0.2;
    if (parameter.initial.value == 0) parameter.initial = {Initial::Kind::normal, 0.1};
  }
  return random_weights(list, 3);
}

/// Numbers of a normal distribution.
inline std::vector<float> noise(int64_t count, uint64_t seed) {
  return random_weights({{"noise", {count}, {Initial::Kind::normal, 1}}}, seed).at("noise");
}

/// What results may differ by, as a share of their norm, where a layer adds up its terms in another order: up to 256 of
/// them, of which each makes 2^-24 of its own; n errors that know nothing of each other make the square root of n.
inline constexpr double kOrderOfALayer = 16 * 0x1p-24;
/// The same through all layers, each of which passes on what those before it err; `times` over.
inline double order_of_layers(const Graph& graph, int times = 1) {
  return kOrderOfALayer * std::sqrt(static_cast<double>(times * std::ssize(graph.nodes())));
}

/// Norm of the difference relative to that of the second.
inline double difference(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    error += std::pow(static_cast<double>(a.at(i)) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(error / norm);
}

}  // namespace nalab::models
