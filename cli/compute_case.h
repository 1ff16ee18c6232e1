// What attend and verify share: a case in one element type, the results of a variant and of the oracle, and how the two
// compare.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/compare.h"
#include "core/kernels/attention.h"
#include "core/kernels/registry.h"
#include "core/tensor/tensor.h"
#include "store/cases.h"

namespace nalab::cli {

/// The tensors of a case, rounded to an element type.
class TypedCase {
 public:
  TypedCase(const store::Case& c, ElementType type);

  const Problem& problem() const { return problem_; }
  Inputs inputs() const;
  bool has_dout() const { return dout_.elements() > 0; }
  ConstTensorView dout() const { return dout_.view(); }
  /// Greatest finite |v|, extra tokens included: what out is made of.
  double max_abs_v() const { return max_abs_v_; }

 private:
  Problem problem_;
  Tensor q_, k_, v_, extra_k_, extra_v_, dout_;
  double max_abs_v_ = 0;
};

/// nullopt if the variant computes the pass of the problem (and, for the backward pass, the forward pass that it
/// needs), otherwise the reason why not.
std::optional<std::string> why_not(const Variant& variant, const Problem& problem, Pass pass);

/// out and lse, with `backward` the gradients as well, in float32. Requires why_not() to be nullopt.
store::CaseOutputs compute(const Variant& variant, const std::string& name, const TypedCase& c, bool backward,
                           Workers& workers, Isa isa);

/// Tensors by their names in a file.
using NamedTensors = std::map<std::string, std::vector<double>>;

/// What the oracle computes for a case.
struct Oracle {
  NamedTensors tensors;  ///< out and lse, and the gradients if there is dout
  double max_abs_score = 0;
};
/// The gradients cost about twice as much as the rest: `backward` tells whether they are needed.
Oracle ask_oracle(const TypedCase& c, bool backward);

struct TensorComparison {
  std::string tensor;
  Comparison comparison;
};

/// Compares each computed tensor with the reference. `factor` widens the bounds of the contract.
std::vector<TensorComparison> compare_tensors(const store::CaseOutputs& computed, const NamedTensors& reference,
                                              const TypedCase& c, double max_abs_score, double factor = 1);

/// The names in which a regular expression has a match. Throws Error if it is not a regular expression, or if it
/// matches none of the names, which are those in the file `path`.
std::vector<std::string> matching(const std::vector<std::string>& names, const std::string& regex,
                                  const std::string& path);

}  // namespace nalab::cli
