// The tensors that all rows of a group share, and the inputs that they start from.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels/attention.h"
#include "core/parallel.h"
#include "core/problem.h"
#include "experiments/config/config.h"
#include "store/schema.h"

namespace nalab::runner {

/// Inputs drawn from the standard normal distribution, and room for results, of the problem's element type (lse: f32).
/// The inputs depend only on the seed and on the problem's self attention: a problem and its baseline have the same
/// inputs, with any number of workers.
class GroupTensors {
 public:
  /// Throws std::bad_alloc if allocation fails.
  GroupTensors(const Problem& problem, config::RowPass pass, int64_t seed, Workers& workers);

  Inputs inputs() const;
  Outputs outputs();
  SavedForBackward saved() const;
  Gradients gradients();

  /// Fills all results with NaN, so that elements that a variant does not write are found.
  void poison(Workers& workers);

  /// Inputs and results as float32, as a results file stores them.
  std::vector<store::StoredTensor> stored() const;

  const Tensor& out() const { return out_; }
  const Tensor& lse() const { return lse_; }
  const Tensor& v() const { return v_; }
  const Tensor& dout() const { return dout_; }

  struct Named {
    const char* name;
    const Tensor* tensor;
  };
  /// The gradients by name, including those of extra tokens if there are any; empty for a forward pass.
  std::vector<Named> named_gradients() const;

 private:
  std::vector<int64_t> layout_;  ///< extents of the problem's own axes
  bool backward_ = false;
  bool extra_ = false;
  Tensor q_, k_, v_, extra_k_, extra_v_, dout_;
  Tensor out_, lse_, dq_, dk_, dv_, dextra_k_, dextra_v_;
};

/// The elements of a contiguous tensor, in order, as float.
std::vector<float> to_floats(const Tensor& tensor);

}  // namespace nalab::runner
