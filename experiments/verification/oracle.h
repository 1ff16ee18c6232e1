// Asking the oracle, about all of a problem's results or about a sample of them.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/kernels/reference/reference.h"
#include "core/parallel.h"
#include "core/tensor_set.h"
#include "core/tensors.h"
#include "experiments/verification/sample.h"
#include "experiments/verification/tensor_rows.h"

namespace nalab::verification {

/// What is expected of a tensor.
struct ExpectedTensor {
  std::optional<std::vector<TensorRow>> rows = {};  ///< those that are compared, in this order; unset: all
  std::vector<double> values;                       ///< of the rows, one after the other
};

/// What results are compared with. Copies share the tensors.
struct Expected {
  std::map<std::string, std::shared_ptr<const ExpectedTensor>, std::less<>> tensors;  ///< by name
  int64_t queries = 0;                                                                ///< rows of out that are compared
  double max_abs_score = 0;  ///< greatest finite |scaled score|: bounds grow with it
  /// Greatest finite |v|, for attn |k|, extra tokens included: what outputs are made of.
  double output_scale = 0;
  /// Greatest finite |dv|, without dv |dattn|: what gradients are held against if they are zero.
  double gradient_scale = 0;

  /// Sets what is expected of a tensor; dv is the gradients' scale.
  void set(std::string_view name, ExpectedTensor tensor);
};

/// Greatest finite |x|; 0 if there is none.
double max_abs(const std::vector<double>& values);

/// reference::forward of these queries, computed by all workers.
reference::Forward oracle_forward(const Problem& problem, const Inputs& inputs,
                                  const std::vector<reference::Query>& queries, Workers& workers);

/// out and lse; the gradients as well if dout is present, except that a sample of them leaves out those of keys and
/// values (see add_sampled_keys).
Expected ask_oracle(const Problem& problem, const Inputs& inputs, const ConstTensorView& dout, const Sample& sample,
                    Workers& workers);

/// The results of an operator on weights, from its inputs in the tensors: outputs of sampled queries; all gradients, or
/// none of them if only a sample is asked for.
Expected ask_split_oracle(const Problem& problem, Pass pass, const TensorSet& tensors, const Sample& sample,
                          Workers& workers);

/// Adds the gradients of sampled keys and values, and of sampled entries of the bias. The oracle makes them from the
/// computed out and lse, which have to be verified on their own.
void add_sampled_keys(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Sample& sample,
                      Workers& workers, Expected& expected);

}  // namespace nalab::verification
