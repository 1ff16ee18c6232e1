#include "store/rows.h"

#include <string>
#include <vector>

#include "core/error.h"

namespace nalab::store {

namespace {

/// What rows and simulations say alike of their problem.
template <class R>
void describe_mask(const Problem& problem, R& row) {
  row.layout = layout_text(problem);
  row.window = extents_text(per_axis(problem, &Axis::window));
  row.stride = extents_text(per_axis(problem, &Axis::stride));
  row.dilation = extents_text(per_axis(problem, &Axis::dilation));
  row.causal = extents_text(per_axis(problem, &Axis::causal));
  row.extra_tokens = problem.extra_tokens;
}

/// The inverse of describe_mask. The problem may be invalid.
template <class R>
Problem mask_of(const R& row) {
  const auto layout = parse_extents("layout", row.layout);
  const auto parse_per_axis = [&](const char* field, const std::string& text) {
    auto values = parse_extents(field, text);
    if (values.size() != layout.size()) {
      throw Error(std::string(field) + " '" + text + "' must have as many numbers as layout '" + row.layout + "'");
    }
    return values;
  };
  const auto window = parse_per_axis("window", row.window);
  const auto stride = parse_per_axis("stride", row.stride);
  const auto dilation = parse_per_axis("dilation", row.dilation);
  const auto causal = parse_per_axis("causal", row.causal);
  Problem problem;
  for (std::size_t i = 0; i < layout.size(); ++i) {
    if (causal[i] != 0 && causal[i] != 1) throw Error("causal '" + row.causal + "' must hold 0 or 1 for each axis");
    problem.axes.push_back({layout[i], window[i], stride[i], dilation[i], causal[i] == 1});
  }
  problem.extra_tokens = row.extra_tokens;
  return problem;
}

/// The scale of a problem in the row's pass.
double scale_of(const Problem& problem, const Row& row) {
  const bool of_weights = row.pass == name(Pass::weights) || row.pass == name(Pass::weights_backward);
  return of_weights ? problem.weights_scale() : problem.effective_scale();
}

}  // namespace

void describe(const Problem& problem, Row& row) {
  row.problem = problem.id();
  describe_mask(problem, row);
  row.batch = problem.batch;
  row.heads = problem.heads;
  row.heads_kv = problem.heads_kv;
  row.head_dim = problem.head_dim;
  row.head_dim_v = problem.head_dim_v;
  row.relative_bias = problem.relative_bias ? 1 : 0;
  row.scale = scale_of(problem, row);
  row.type = name(problem.type);
}

void describe(const Problem& problem, SimulationRow& row) { describe_mask(problem, row); }

Problem problem_of(const Row& row) {
  Problem problem = mask_of(row);
  problem.batch = row.batch;
  problem.heads = row.heads;
  problem.heads_kv = row.heads_kv;
  problem.head_dim = row.head_dim;
  problem.head_dim_v = row.head_dim_v;
  if (row.relative_bias != 0 && row.relative_bias != 1) {
    throw Error("relative_bias " + std::to_string(row.relative_bias) + " must be 0 or 1");
  }
  problem.relative_bias = row.relative_bias == 1;
  problem.type = parse_element_type(row.type);
  Problem with_scale = problem;
  with_scale.scale = row.scale;
  with_scale.validate();
  return scale_of(problem, row) == row.scale && problem.id() == row.problem ? problem : with_scale;
}

Problem problem_of(const SimulationRow& row) {
  Problem problem = mask_of(row);
  problem.validate();
  return problem;
}

void infer_arithmetic(Row& row) {
  const bool is_reference = row.variant == "reference";
  const bool has_dots = row.variant == "fused" || row.variant == "fused_static" || row.variant == "dense";
  const std::string others = is_reference ? "f64_scalar" : "f32_fma";
  row.arithmetic = has_dots && row.type == "bf16" && row.isa == "avx512bf16" ? "bf16_dot" : others;
  row.backward_arithmetic = row.pass == "forward" ? "" : others;
}

}  // namespace nalab::store
