// Comparing what a row computed with the oracle, on all queries or on a sample of them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/compare.h"
#include "core/kernels/reference.h"
#include "core/parallel.h"
#include "experiments/plan/plan.h"
#include "experiments/runner/tensors.h"

namespace nalab::runner {

/// `count` queries spread over the tensor out in its order: the corner tokens in the first and in the last head and
/// batch entry, and one random query of each of `count` equal stretches; at most count + 16. All queries if count is
/// the total. The same for the same problem and seed.
std::vector<reference::Query> choose_queries(const Problem& problem, int64_t count, int64_t seed);

/// As choose_queries, of the tensor k.
std::vector<reference::Key> choose_keys(const Problem& problem, int64_t count, int64_t seed);

/// As choose_queries, of the tensor extra_k; none for a count of 0.
std::vector<reference::Key> choose_extra_tokens(const Problem& problem, int64_t count, int64_t seed);

/// reference::forward of these queries, computed by all workers.
reference::Forward oracle_forward(const Problem& problem, const Inputs& inputs,
                                  const std::vector<reference::Query>& queries, Workers& workers);

/// Outcome of the comparison of all tensors of a row.
struct Verdict {
  std::string failure;           ///< empty if all agree, otherwise which tensor does not, and how
  int64_t verified_queries = 0;  ///< rows of out that were compared
  double error_frobenius = 0, error_max = 0;
  double bound_frobenius = 0, bound_max = 0;  ///< of the tensors whose errors are greatest relative to their bounds
  std::string not_verified;                   ///< a sentence on what was not compared at all; empty if every tensor was
};

/// The oracle of a group. Rows of the same problem are compared with the same results, computed once; but sampled keys
/// with what the oracle computes from the row's own out and lse.
class Verifier {
 public:
  Verifier(const GroupTensors& tensors, const config::Settings& settings, Workers& workers)
      : tensors_(tensors), settings_(settings), workers_(workers) {}

  /// Compares the results that the row left in the group's tensors.
  Verdict verify(const plan::PlannedRow& row);

 private:
  struct Expected {
    std::vector<reference::Query> queries;
    reference::Forward forward;
    // Of a forward_backward row: all gradients, or dq of the queries of its sample.
    reference::Backward backward;
    std::vector<reference::Query> gradient_queries;
  };
  const Expected& expected(const plan::PlannedRow& row);
  void verify_gradients(const plan::PlannedRow& row, const Expected& e, Verdict& verdict);
  void verify_gradient_sample(const plan::PlannedRow& row, const Expected& e, Verdict& verdict);

  const GroupTensors& tensors_;
  const config::Settings& settings_;
  Workers& workers_;
  std::map<std::string, Expected> by_problem_;
};

}  // namespace nalab::runner
