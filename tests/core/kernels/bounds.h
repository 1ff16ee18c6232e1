// Bounds of errors from what they come from: the unit of a type, the number of roundings, the size of the terms.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "core/kernels/reference/term_sizes.h"
#include "core/tensor_set.h"
#include "tests/core/kernels/backward.h"
#include "tests/core/kernels/support.h"

namespace nalab::test {

/// What one rounding is off by at most, relative to the number.
inline constexpr double kFloatUnit = 0x1p-24, kDoubleUnit = 0x1p-53, kBf16Unit = 0x1p-9;

/// The relative error of weights that are rounded to bf16 afterwards: powers of 2 by a cubic (core/simd/exp-inl.h).
inline constexpr double kCubicError = 1.1e-4;

/// The sums of the absolute values of the terms that the results of the data are sums of.
template <class SomeData>
reference::TermSizes term_sizes(const Problem& problem, Pass pass, SomeData& data) {
  TensorSet given(problem, pass, [](Role role) { return role == Role::input || role == Role::output_gradient; });
  for (TensorSet::Entry& entry : given.entries()) {
    const std::vector<double> values = to_double(data[entry.info.name].view());
    for (std::size_t i = 0; i < values.size(); ++i) set(entry.tensor, static_cast<int64_t>(i), values[i]);
  }
  return reference::term_sizes(problem, pass, given);
}

/// What the roundings on the way to an element make, relative to the size of its terms: sums over keys or queries,
/// products over channels, and eight of scale, exponential, quotient and difference. They know nothing of each other,
/// so that n make the square root of n. A score passes its absolute error on to the weight as a relative one.
inline double roundings(const Problem& problem, double greatest_score) {
  const int64_t queries = problem.batch * problem.tokens() * problem.heads / problem.heads_kv;
  const int64_t terms = std::max(problem.keys_per_query() + problem.extra_tokens, queries);
  const auto channels = static_cast<double>(std::max(problem.head_dim, problem.head_dim_v));
  return std::sqrt(static_cast<double>(terms) + (channels + 8) * std::pow(1 + greatest_score, 2));
}

/// What each element of the gradients may be off by, in the order of the list: roundings, of the size of its terms.
inline std::vector<std::vector<double>> gradient_bounds(const Problem& problem, const Data& data, double unit) {
  auto sizes = term_sizes(problem, Pass::backward, data);
  std::vector<std::vector<double>> bounds;
  for (const TensorInfo& info : gradients_of(problem)) {
    std::vector<double>& bound = bounds.emplace_back(std::move(sizes.of.at(info.name)));
    for (double& x : bound) x *= unit * roundings(problem, sizes.greatest_score);
  }
  return bounds;
}

/// What gradients add up to, whatever the numbers are; within what they may be off by.
inline void expect_sum_rules(const Problem& problem, const Data& data,
                             const std::vector<std::vector<double>>& gradients, double unit) {
  const auto bounds = gradient_bounds(problem, data, unit);
  const auto sum_of_keys = [&](const std::vector<std::vector<double>>& of, std::size_t tensor, std::size_t extra) {
    const auto list = gradients_of(problem);
    auto sums = sum_by_kv_head(problem, list[tensor].shape, of[tensor]);
    if (problem.extra_tokens == 0) return sums;
    const auto more = sum_by_kv_head(problem, list[extra].shape, of[extra]);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += more[i];
    return sums;
  };
  // The weights of a query sum to one: dv summed over the keys is dout summed over the queries.
  const auto dv = sum_of_keys(gradients, 2, 4), dv_bounds = sum_of_keys(bounds, 2, 4);
  const auto dout = sum_by_kv_head(problem, out_shape(problem), to_double(data["dout"].view()));
  for (std::size_t i = 0; i < dv.size(); ++i) EXPECT_NEAR(dv[i], dout[i], dv_bounds[i]) << "dv";
  // The same number added to all scores of a query changes nothing: dk summed over the keys is zero.
  const auto dk = sum_of_keys(gradients, 1, 3), dk_bounds = sum_of_keys(bounds, 1, 3);
  for (std::size_t i = 0; i < dk.size(); ++i) EXPECT_NEAR(dk[i], 0, dk_bounds[i]) << "dk";
  // Scores are linear in q and in k: both q dq and k dk sum to the scores times their gradients.
  double difference = 0, bound = 0;
  const auto add = [&](double sign, std::size_t tensor, const char* input) {
    std::vector<double> values = to_double(data[input].view());
    difference += sign * dot(gradients[tensor], values);
    for (double& x : values) x = std::abs(x);
    bound += dot(bounds[tensor], values);
  };
  add(1, 0, "q");
  add(-1, 1, "k");
  if (problem.extra_tokens > 0) add(-1, 3, "extra_k");
  EXPECT_NEAR(difference, 0, bound);
  // As dk: the biases of a head pass on nothing in all, where extra tokens have no part of it.
  if (!problem.relative_bias || problem.extra_tokens > 0) return;
  for (int64_t h = 0; h < problem.heads; ++h) {
    const auto sum = [&](const std::vector<double>& of) {
      const auto first = of.begin() + h * problem.bias_entries();
      return std::accumulate(first, first + problem.bias_entries(), 0.0);
    };
    EXPECT_NEAR(sum(gradients.back()), 0, sum(bounds.back())) << "drpb";
  }
}

/// What an element of lse may be off by, of a problem without biases or where they are zero, from weights with a
/// relative error.
class LseBound {
 public:
  LseBound(const Problem& problem, const Data& data, double weight_error) : absolute_(weight_error) {
    const double keys =
        std::max(greatest_norm(data["k"]), problem.extra_tokens > 0 ? greatest_norm(data["extra_k"]) : 0);
    // No more than this is added up for a score: one rounding for each product and sum, and a few for its scale and
    // its way into an exponent of 2.
    const double terms = std::abs(problem.effective_scale()) * greatest_norm(data["q"]) * keys;
    absolute_ += kFloatUnit * static_cast<double>(problem.head_dim + 8) * terms;
    // The sum of weights, exp and log, each relative to the sum.
    absolute_ += kFloatUnit * static_cast<double>(problem.keys_per_query() + problem.extra_tokens + 8);
  }
  double at(double expected) const { return absolute_ + 2 * kFloatUnit * std::abs(expected); }

 private:
  static double greatest_norm(const Tensor& tensor) {
    const std::vector<double> values = to_double(tensor.view());
    const auto dim = static_cast<std::ptrdiff_t>(tensor.shape().dim);
    double greatest = 0;
    for (auto row = values.begin(); row != values.end(); row += dim) {
      greatest = std::max(greatest, std::inner_product(row, row + dim, row, 0.0));
    }
    return std::sqrt(greatest);
  }

  double absolute_;
};

/// Derivatives by central differences of fourth order, and a bound of what they leave out.
struct Differences {
  std::vector<double> derivatives;
  double remainder = 0;
};

/// Of loss() by each element of a tensor that it reads, whose elements must be multiples of kGrid, so that steps are
/// exact in float. The error goes with the step to the fourth: twice the step gives 16 times as much, and what both
/// differ by is 15 times the error.
inline constexpr double kGrid = 0x1p-10;
inline Differences differences(Tensor& tensor, const std::function<double()>& loss) {
  constexpr double kStep = 0x1p-6;
  Differences found;
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    const double x = tensor.data<float>()[i];
    const auto difference = [&](double steps) {
      set(tensor, i, x + steps * kStep);
      const double above = loss();
      set(tensor, i, x - steps * kStep);
      return above - loss();
    };
    const double one = difference(1), two = difference(2), four = difference(4);
    set(tensor, i, x);
    found.derivatives.push_back((8 * one - two) / (12 * kStep));
    found.remainder = std::max(found.remainder, std::abs(found.derivatives.back() - (8 * two - four) / (24 * kStep)));
  }
  found.remainder /= 15;
  return found;
}

/// Rounds the elements to multiples of kGrid.
inline void to_grid(Tensor& tensor) {
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    set(tensor, i, std::round(tensor.data<float>()[i] / kGrid) * kGrid);
  }
}

}  // namespace nalab::test
