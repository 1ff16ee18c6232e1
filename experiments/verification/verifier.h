// Verifying several computations of the same results.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "core/parallel.h"
#include "core/tensor_set.h"
#include "experiments/verification/compare_tensors.h"
#include "experiments/verification/sample.h"

namespace nalab::verification {

/// The oracle of a set of tensors. Results of the same problem are compared with the same expected ones, computed once;
/// but sampled keys with what the oracle computes from the out and lse at hand.
class Verifier {
 public:
  /// The tensors of a pass, which must outlive the verifier. Those of the backward pass of attention have the results
  /// of its forward pass too.
  Verifier(const TensorSet& tensors, Pass pass, Workers& workers) : tensors_(tensors), pass_(pass), workers_(workers) {}

  /// Compares the results that are in the tensors now. The problem has tensors of these shapes; the sample must be the
  /// same for the same problem.
  VerificationResult verify(const Problem& problem, const Sample& sample);

 private:
  const TensorSet& tensors_;
  const Pass pass_;
  Workers& workers_;
  std::map<std::string, Expected> by_problem_;
};

/// A sentence on the results that were not compared; empty if all were.
std::string not_verified(const VerificationResult& result);

}  // namespace nalab::verification
