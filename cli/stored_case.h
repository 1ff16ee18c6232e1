// A row of a results file with its tensors, split into inputs and outputs, and how to compute it again.
#pragma once

#include <string_view>
#include <vector>

#include "cli/compute_case.h"
#include "store/cases.h"
#include "store/schema.h"

namespace nalab::cli {

struct StoredCase {
  store::Case inputs;  ///< named after the row; its problem has the row's element type
  store::CaseOutputs outputs;
  Pass pass;  ///< the last that the row computes
};

/// Throws Error as store::problem_of, and one that names the tensor if it is missing or has another shape than the
/// problem says.
StoredCase stored_case(const store::Row& row, std::vector<store::StoredTensor> tensors);

/// The variant that computes a row today: `fused_static` was once one of its own, and is fused with static KV tiling.
std::string_view variant_of(const store::Row& row);

/// The plans of a row for passes_before(pass): with the arithmetics and tilings that it has stored, except for those
/// that the choices prescribe. Throws Error as make_plan().
std::vector<Plan> plan_row(const store::Row& row, const Problem& problem, Pass pass, const Choices& choices);

}  // namespace nalab::cli
