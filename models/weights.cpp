#include "models/weights.h"

#include <cmath>
#include <numbers>
#include <string_view>

#include "core/splitmix64.h"

namespace nalab::models {

namespace {

/// The numbers of a seed and a name.
class Random {
 public:
  Random(uint64_t seed, std::string_view name) : counter_(seed) {
    for (const char c : name) counter_ = (counter_ ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  }

  /// From 0 to 1, both excluded.
  double uniform() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }
  double normal() {
    const double radius = uniform(), angle = uniform();
    return std::sqrt(-2 * std::log(radius)) * std::cos(2 * std::numbers::pi * angle);
  }

 private:
  uint64_t next() {
    const uint64_t bits = splitmix64(counter_);
    counter_ += kSplitMix64Step;
    return bits;
  }

  uint64_t counter_;
};

double draw(const Initial& initial, Random& random) {
  switch (initial.kind) {
    case Initial::Kind::normal:
      return initial.value * random.normal();
    case Initial::Kind::uniform:
      return initial.value * (2 * random.uniform() - 1);
    case Initial::Kind::constant:
      break;
  }
  return initial.value;
}

}  // namespace

Weights random_weights(const std::vector<Parameter>& parameters, uint64_t seed) {
  Workers here(1);
  return random_weights(parameters, seed, here);
}

Weights random_weights(const std::vector<Parameter>& parameters, uint64_t seed, Workers& workers) {
  Weights weights;
  for (const Parameter& parameter : parameters) weights[parameter.name];
  workers.for_each(std::ssize(parameters), [&](int64_t i, int) {
    const Parameter& parameter = parameters[static_cast<std::size_t>(i)];
    Random random(seed, parameter.name);
    std::vector<float>& values = weights.at(parameter.name);
    values.resize(static_cast<std::size_t>(parameter.elements()));
    for (float& value : values) value = static_cast<float>(draw(parameter.initial, random));
  });
  return weights;
}

std::vector<Parameter> sharp(std::vector<Parameter> parameters) {
  using enum Initial::Kind;
  for (Parameter& parameter : parameters) {
    const bool is_matrix = parameter.shape.size() == 2;
    if (is_matrix) parameter.initial = {normal, 1 / std::sqrt(static_cast<double>(parameter.shape[1]))};
    if (parameter.name.ends_with("rpb")) parameter.initial = {normal, 1};
    if (parameter.name.ends_with("gamma1") || parameter.name.ends_with("gamma2")) parameter.initial = {constant, 1};
  }
  return parameters;
}

}  // namespace nalab::models
