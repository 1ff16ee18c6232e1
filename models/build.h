// From a definition to its graph.
#pragma once

#include <cstdint>

#include "models/definition.h"
#include "models/graph.h"

namespace nalab::models {

/// What may differ between two uses of one model.
struct BuildOptions {
  int64_t rows = 0,
          columns = 0;  ///< of the images that a classifier gets; 0: the definition's input. A generator has none.
  bool relative_bias = true;  ///< false: attention without its tables, as in table 8 of Faster NA
  bool training = false;      ///< true: what gradients need is a value of its own
};

/// The whole network: images [rows, columns, 3] to logits [1, 1, classes], or latents to an image [input, input, 3].
/// Throws Error that names the model if its windows do not fit the images.
Graph build(const Definition& definition, const BuildOptions& options = {});

/// The parts of build() for the two kinds of networks.
Graph build_classifier(const Definition& definition, const BuildOptions& options);
Graph build_generator(const Definition& definition, const BuildOptions& options);

/// MLP and attention, as all of the models have them.
struct Block {
  std::string state = {};  ///< prefix of its parameters
  int64_t channels = 0, hidden = 0;
  Attention attention = {};
  double layer_scale = 0;  ///< initial gamma1, gamma2; 0: none
};
/// x + gamma1 * proj(attention(qkv(normed))).
Value add_attention(Graph& graph, const Block& block, Value x, Value normed);
/// x + gamma2 * fc2(gelu(fc1(normed))). training: GELU is an operation of its own.
Value add_mlp(Graph& graph, const Block& block, Value x, Value normed, bool training = false);

}  // namespace nalab::models
