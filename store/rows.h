// Rows and the problems that they are about.
#pragma once

#include "core/problem.h"
#include "store/schema.h"

namespace nalab::store {

/// Fills in every field of a row that says what problem it is about: problem (the id), layout to causal, batch to
/// relative_bias, scale and type. The row's pass must be set: a scale that is not is another one for some passes.
void describe(const Problem& problem, Row& row);
/// The same for what a simulation says of its problem: layout to causal, and extra_tokens.
void describe(const Problem& problem, SimulationRow& row);

/// The problem that a row is about: the inverse of describe. The scale is unset if the row has the default one of its
/// pass and its id says none. Throws Error that names the field if the fields do not describe a valid problem.
Problem problem_of(const Row& row);
/// The same for a simulation: axes and extra tokens, everything else as in Problem{}.
Problem problem_of(const SimulationRow& row);

/// Fills in the arithmetics of a row by its variant, type, ISA and pass: what builds choose that store none.
void infer_arithmetic(Row& row);

}  // namespace nalab::store
