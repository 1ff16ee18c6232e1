// What follows from a graph alone: the parameters of a model and what it costs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/graph.h"

namespace nalab::models {

/// How a parameter begins, before training.
struct Initial {
  enum class Kind : uint8_t {
    constant,  ///< `value` throughout
    normal,    ///< standard deviation `value`
    uniform,   ///< from -value to value
  };
  Kind kind = Kind::constant;
  double value = 0;
};

/// One tensor of a model's state, named and shaped as in the original checkpoints.
struct Parameter {
  std::string name;
  std::vector<int64_t> shape;
  Initial initial = {};

  int64_t elements() const;
};

/// All parameters, in the order of their use.
std::vector<Parameter> parameters(const Graph& graph);
int64_t parameter_count(const Graph& graph);

/// Multiply-adds of one image by the rules that the papers' "FLOPs" follow (fvcore): convolutions, linear layers, five
/// for a number of a norm, one for a number that is averaged, and of attention both products and one for each weight's
/// bias.
struct MultiplyAdds {
  int64_t all = 0;
  int64_t attention = 0;  ///< of those, the products and biases of attention
};
MultiplyAdds multiply_adds(const Graph& graph);

}  // namespace nalab::models
