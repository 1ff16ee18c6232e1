// The tensors that all rows of a group share, and the inputs that they start from.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/parallel.h"
#include "core/problem.h"
#include "core/tensor_set.h"
#include "experiments/config/config.h"
#include "store/schema.h"

namespace nalab::runner {

/// Inputs drawn from the standard normal distribution, and room for results, of the element types of the list of
/// tensors. The inputs depend only on the seed and on the problem's self attention without a bias: a problem, the same
/// with a bias and their baseline have the same inputs, in every pass and with any number of workers.
class GroupTensors {
 public:
  /// Throws std::bad_alloc if allocation fails.
  GroupTensors(const Problem& problem, config::RowPass pass, int64_t seed, Workers& workers);

  // Made once: timed calls take them.
  const Inputs& inputs() const { return inputs_; }
  const Outputs& outputs() const { return outputs_; }
  const SavedForBackward& saved() const { return saved_; }
  const Gradients& gradients() const { return gradients_; }
  const TensorView& attn() const { return attn_; }
  const TensorView& dattn() const { return dattn_; }
  const TensorSet& all() const { return tensors_; }
  int64_t bytes() const;

  /// Fills all results with NaN, so that elements that a variant does not write are found.
  void poison(Workers& workers);

  /// Gives inputs and results of one of the problems that have these tensors to `store`, one after the other, as
  /// float32.
  void store(const Problem& problem, const std::function<void(const store::StoredTensor&)>& store) const;

 private:
  Pass pass_;  ///< the last of the row's passes, which has the tensors of all
  TensorSet tensors_;
  const Inputs inputs_;
  const Outputs outputs_;
  const SavedForBackward saved_;
  const Gradients gradients_;
  const TensorView attn_, dattn_;
};

/// The tensors of groups that run one after the other. Neighbours of the same tensors, such as those of one layout and
/// several strides, get the same: filling them at full size takes longer than a GPU takes to compute with them.
class SharedTensors {
 public:
  /// What a group needs. Frees what it has no use for.
  void prepare_for(const Problem& problem, config::RowPass pass, int64_t seed);
  /// Of the tensors that are there.
  int64_t bytes() const { return tensors_ == nullptr ? 0 : tensors_->bytes(); }
  /// Those of the group. Throws std::bad_alloc if allocation fails.
  GroupTensors& of(const Problem& problem, config::RowPass pass, int64_t seed, Workers& workers);

 private:
  std::string what_;  ///< of all that the tensors depend on
  std::unique_ptr<GroupTensors> tensors_;
};

}  // namespace nalab::runner
