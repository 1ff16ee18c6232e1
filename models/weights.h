// The numbers of a model, by the names of its state.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "models/parameters.h"

namespace nalab::models {

/// Contiguous, shaped as parameters() says.
using Weights = std::map<std::string, std::vector<float>>;

/// Weights as they are before training, each tensor by a seed of its own, made of `seed` and its name: so a tensor does
/// not depend on which others a model has.
Weights random_weights(const std::vector<Parameter>& parameters, uint64_t seed);
/// The same numbers, drawn by workers.
Weights random_weights(const std::vector<Parameter>& parameters, uint64_t seed, Workers& workers);

/// The same parameters with initial values for which all parts of a classifier matter, as they do once it is trained:
/// with those of the papers its logits hardly depend on attention. Layer scale begins at 1, and weights keep the size
/// of what they multiply.
std::vector<Parameter> sharp(std::vector<Parameter> parameters);

}  // namespace nalab::models
