// A row of a results file with its tensors, split into inputs and outputs.
#pragma once

#include <vector>

#include "store/cases.h"
#include "store/schema.h"

namespace nalab::cli {

struct StoredCase {
  store::Case inputs;  ///< named after the row; its problem has the row's element type
  store::CaseOutputs outputs;
  bool gradients = false;  ///< whether the outputs include them
};

/// Throws Error as store::problem_of, and one that names the tensor if it is missing or has another shape than the
/// problem says.
StoredCase stored_case(const store::Row& row, std::vector<store::StoredTensor> tensors);

}  // namespace nalab::cli
