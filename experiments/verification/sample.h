// How much of a problem's results is compared with the oracle.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

namespace nalab::verification {

/// Rows of the gradients that are compared with the oracle if comparing all would take too long; none of an operator on
/// weights.
struct GradientSample {
  int64_t queries = 0;       ///< rows of the gradient of q
  int64_t keys = 0;          ///< rows of the gradient of k, and of that of v
  int64_t extra_tokens = 0;  ///< the same of extra tokens
  int64_t offsets = 0;       ///< entries of the gradient of rpb
};

struct Sample {
  int64_t queries = std::numeric_limits<int64_t>::max();  ///< rows of out and lse, about; from their number on all
  std::optional<GradientSample> gradients = {};           ///< unset: all gradients
  int64_t seed = 0;                                       ///< of the choice
};

}  // namespace nalab::verification
