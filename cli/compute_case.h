// What attend and verify share: a case in one element type, how it is to be computed, and the results of a variant.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/attention.h"
#include "core/kernels/registry.h"
#include "core/tensor_set.h"
#include "experiments/verification/compare_tensors.h"
#include "store/cases.h"

namespace nalab::cli {

/// The tensors that a pass reads of a case, rounded to an element type.
class TypedCase {
 public:
  /// Requires the case to have the tensors.
  TypedCase(const store::Case& c, ElementType type, Pass pass);

  const Problem& problem() const { return problem_; }
  Inputs inputs() const { return tensors_.inputs(); }
  /// Inputs and gradients of outputs.
  const TensorSet& tensors() const { return tensors_; }

 private:
  Problem problem_;
  TensorSet tensors_;
};

/// How results are to be computed, as the options say it.
struct Choices {
  std::string isa;                      ///< empty: NALAB_ISA, else the best
  std::string arithmetic;               ///< empty: NALAB_ARITHMETIC, else by preference
  std::string tiling, backward_tiling;  ///< empty: the best
  /// A tiling other than the best that is named for a pass or the one before it; empty if there is none.
  std::string_view named_tiling(Pass pass) const {
    if (!tiling.empty() && tiling != kBestTiling) return tiling;
    return pass == Pass::backward ? std::string_view(backward_tiling) : std::string_view();
  }

  /// Adds the options to a command.
  void add_options(CLI::App& command);
  /// Throws Error if an option, or the variable that it goes before, names nothing that exists.
  void check() const;
  /// The options of the plan for a pass. They refer to the choices.
  PlanOptions plan_options(std::string_view variant, Pass pass) const;

 private:
  Isa chosen_isa() const;
};

/// The passes of a case: the pass itself, for the backward pass of attention its forward pass before it.
std::vector<Pass> passes_before(Pass pass);

/// The calls that compute a case, in their order: those of passes_before(). Throws Error as make_plan().
std::vector<Plan> plan_case(const Problem& problem, Pass pass, std::string_view variant, const Choices& choices);

/// nullopt if the variant computes the pass of the problem (and, for the backward pass, the forward pass that it
/// needs), otherwise the reason why not.
std::optional<std::string> why_not(const Variant& variant, const Problem& problem, Pass pass);

/// The results of the plans in float32. Requires a case with the tensors of their passes.
store::CaseOutputs compute(const std::vector<Plan>& plans, const std::string& name, const TypedCase& c,
                           Context& context);

/// What the oracle says of a case. The gradients of attention cost about twice as much as the rest: Pass::forward
/// leaves them out.
verification::Expected ask_oracle(const TypedCase& c, Pass pass, Context& context);

/// Compares the results of a pass computed for a problem with what is expected. `factor` widens the bounds of the
/// contract.
verification::VerificationResult compare_outputs(const Problem& problem, Pass pass, const store::CaseOutputs& computed,
                                                 const verification::Expected& expected, double factor = 1);

/// The names in which a regular expression has a match. Throws Error if it is not a regular expression, or if it
/// matches none of the names, which are those in the file `path`.
std::vector<std::string> matching(const std::vector<std::string>& names, const std::string& regex,
                                  const std::string& path);

}  // namespace nalab::cli
