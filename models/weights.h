// The numbers of a model, by the names of its state.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/parameters.h"

namespace nalab::models {

/// Contiguous, shaped as parameters() says.
using Weights = std::map<std::string, std::vector<float>>;

/// Weights as they are before training, each tensor by a seed of its own, made of `seed` and its name: so a tensor does
/// not depend on which others a model has.
Weights random_weights(const std::vector<Parameter>& parameters, uint64_t seed);

}  // namespace nalab::models
