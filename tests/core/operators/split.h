// Running the split operators on tensors by name, and softmax between them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/kernels/reference/reference.h"
#include "core/operators/split_attention.h"
#include "tests/core/definition.h"
#include "tests/core/kernels/problems.h"
#include "tests/core/kernels/support.h"

namespace nalab::test {

inline constexpr std::array kSplitPasses{Pass::weights, Pass::weights_backward, Pass::values, Pass::values_backward};

/// The tensors of a split pass by the names of the list.
using Views = std::map<std::string_view, TensorView>;

/// The views of a bundle, those that are missing absent.
template <class Bundle>
Bundle bundle_of(const Problem& problem, const Views& views) {
  Bundle bundle;
  visit_tensors(problem, bundle, [&](const TensorInfo& info, auto& view) {
    if (const auto found = views.find(info.name); found != views.end()) view = found->second;
  });
  return bundle;
}

/// A tensor of attn's shape, given or made.
inline bool is_attn(const TensorInfo& info) { return info.name == "attn" || info.name == "dattn"; }

/// Calls the operator of a plan's pass.
inline void run_split(const Plan& plan, const Views& views, const Execution& execution) {
  const Problem& problem = plan.problem();
  const auto inputs = bundle_of<Inputs>(problem, views);
  const auto gradients = bundle_of<Gradients>(problem, views);
  const SplitOperators& split = *plan.variant().split;
  switch (plan.pass()) {
    case Pass::weights:
      return split.weights(plan, inputs, views.at("attn"), execution);
    case Pass::weights_backward:
      return split.weights_backward(plan, inputs, views.at("dattn"), gradients, execution);
    case Pass::values:
      return split.values(plan, views.at("attn"), inputs, views.at("out"), execution);
    case Pass::values_backward:
      return split.values_backward(plan, views.at("attn"), inputs, views.at("dout"), views.at("dattn"), gradients,
                                   execution);
    default:
      ADD_FAILURE() << "no split pass";
  }
}

/// The same as a caller does it; tensors may be missing.
inline void call_split(const Plan& plan, Pass pass, const Views& views, Context& context) {
  const Problem& problem = plan.problem();
  const auto inputs = bundle_of<Inputs>(problem, views);
  const auto gradients = bundle_of<Gradients>(problem, views);
  const auto view = [&](std::string_view name) {
    const auto found = views.find(name);
    return found == views.end() ? TensorView() : found->second;
  };
  switch (pass) {
    case Pass::weights:
      return attention_weights(plan, inputs, view("attn"), context);
    case Pass::weights_backward:
      return attention_weights_backward(plan, inputs, view("dattn"), gradients, context);
    case Pass::values:
      return attention_values(plan, view("attn"), inputs, view("out"), context);
    case Pass::values_backward:
      return attention_values_backward(plan, view("attn"), inputs, view("dout"), view("dattn"), gradients, context);
    default:
      ADD_FAILURE() << "no split pass";
  }
}

/// What the reference computes, by the names of the list.
inline reference::NamedResults expected_split(const Problem& problem, Pass pass, const Views& views) {
  const auto inputs = bundle_of<Inputs>(problem, views);
  switch (pass) {
    case Pass::weights:
      return {{"attn", reference::weights(problem, inputs)}};
    case Pass::weights_backward:
      return by_name(reference::weights_backward(problem, inputs, views.at("dattn")));
    case Pass::values:
      return {{"out", reference::values(problem, views.at("attn"), inputs)}};
    case Pass::values_backward:
      return by_name(reference::values_backward(problem, views.at("attn"), inputs, views.at("dout")));
    default:
      ADD_FAILURE() << "no split pass";
      return {};
  }
}

/// For each slot of each row of attn, whether a query attends to its key: from the text of the contract.
inline std::vector<bool> visible_slots(const Problem& problem) {
  const auto axes = problem.axes3();
  const std::array<int64_t, 3> layout{axes[0].extent, axes[1].extent, axes[2].extent};
  std::vector<bool> visible;
  for (int64_t row = 0; row < problem.batch * problem.tokens() * problem.heads; ++row) {
    const auto token = token_at(layout, row / problem.heads % problem.tokens());
    std::array<int64_t, 3> shown;
    for (std::size_t a = 0; a < 3; ++a) shown[a] = static_cast<int64_t>(attended(axes[a], token[a]).size());
    for (int64_t i = 0; i < axes[0].window; ++i) {
      for (int64_t j = 0; j < axes[1].window; ++j) {
        for (int64_t k = 0; k < axes[2].window; ++k) {
          visible.push_back(i < shown[0] && j < shown[1] && k < shown[2]);
        }
      }
    }
    visible.insert(visible.end(), static_cast<std::size_t>(problem.extra_tokens), true);
  }
  return visible;
}

/// Puts a number into the hidden slots of a contiguous tensor of attn's shape.
inline void set_hidden(const Problem& problem, Tensor& attn, double x) {
  const std::vector<bool> visible = visible_slots(problem);
  for (std::size_t i = 0; i < visible.size(); ++i) {
    if (!visible[i]) set(attn, static_cast<int64_t>(i), x);
  }
}

/// Inputs of all split passes; attn and dattn are of a type of their own, with NaN in the hidden slots.
class SplitData {
 public:
  SplitData(const Problem& problem, ElementType attn_type, uint64_t seed) : problem_(problem), data_(problem, seed) {
    std::mt19937_64 random(seed + 1);
    for (Tensor* tensor : {&attn_, &dattn_}) {
      *tensor = random_tensor(attn_type, attn_shape(problem), random);
      set_hidden(problem, *tensor, std::numeric_limits<double>::quiet_NaN());
    }
  }

  Tensor& operator[](std::string_view name) { return name == "attn" ? attn_ : name == "dattn" ? dattn_ : data_[name]; }

  /// Views of what a pass reads.
  Views inputs(Pass pass) {
    Views views;
    for (const TensorInfo& info : tensors_of(problem_, pass)) {
      if (!info.is_result()) views[info.name] = (*this)[info.name].view();
    }
    return views;
  }

 private:
  Problem problem_;
  Data data_;
  Tensor attn_, dattn_;
};

/// Results of a split pass, by the names of the list.
template <class Memory>
std::map<std::string_view, Memory> split_results(const Problem& problem, Pass pass, ElementType attn_type,
                                                 ElementType result_type) {
  std::map<std::string_view, Memory> results;
  for (const TensorInfo& info : tensors_of(problem, pass)) {
    if (!info.is_result()) continue;
    const ElementType type = is_attn(info) ? attn_type : info.over == Over::offsets ? info.type : result_type;
    results.emplace(info.name, Memory(type, info.shape));
  }
  return results;
}

/// Runs a split pass, and checks that nothing but the results and the workspace is written. setting.out_type is that of
/// the results but for attn and its gradient.
template <class Memory = GuardedTensor>
std::map<std::string_view, Memory> run_split(const Variant& variant, const Problem& problem, Pass pass, Views views,
                                             ElementType attn_type, const Setting& setting, bool in_a_row = true) {
  auto results = split_results<Memory>(problem, pass, attn_type, setting.out_type);
  for (auto& [name, memory] : results) views[name] = memory.view();
  with_workspace(plan_of(variant, problem, pass, setting, in_a_row), setting,
                 [&](const Plan& plan, const Execution& execution) { run_split(plan, views, execution); });
  return results;
}

/// The softmax of each row of `slots`, in double; slots of -infinity weigh nothing.
inline std::vector<double> softmax_rows(std::vector<double> rows, int64_t slots) {
  for (auto row = rows.begin(); row != rows.end(); row += slots) {
    const double max = *std::max_element(row, row + slots);
    double sum = 0;
    for (auto x = row; x != row + slots; ++x) sum += * x = std::exp(*x - max);
    for (auto x = row; x != row + slots; ++x) *x /= sum;
  }
  return rows;
}

/// The gradients of the scores of each row from the weights and their gradients: p (dp - sum p dp).
inline std::vector<double> softmax_rows_gradient(const std::vector<double>& p, std::vector<double> dp, int64_t slots) {
  const auto n = static_cast<std::size_t>(slots);
  for (std::size_t row = 0; row < p.size(); row += n) {
    double delta = 0;
    for (std::size_t i = row; i < row + n; ++i) delta += p[i] * dp[i];
    for (std::size_t i = row; i < row + n; ++i) dp[i] = p[i] * (dp[i] - delta);
  }
  return dp;
}

}  // namespace nalab::test
