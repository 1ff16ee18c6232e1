#include "cli/stored_case.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/kernels/registry.h"
#include "store/rows.h"

namespace nalab::cli {

namespace {

constexpr std::string_view kFormerStaticVariant = "fused_static";

/// The operator on weights that a row is of; nullopt if it is of attention.
std::optional<Pass> split_pass(const store::Row& row) {
  for (const Pass pass : kPasses) {
    if (is_split(pass) && row.pass == name(pass)) return pass;
  }
  return std::nullopt;
}

}  // namespace

StoredCase stored_case(const store::Row& row, std::vector<store::StoredTensor> tensors) {
  StoredCase stored;
  store::Case& inputs = stored.inputs;
  inputs.name = row.id;
  inputs.problem = store::problem_of(row);
  stored.outputs.name = row.id;

  std::map<std::string, store::StoredTensor, std::less<>> by_name;
  for (store::StoredTensor& tensor : tensors) by_name[tensor.name] = std::move(tensor);
  inputs.backward = std::ranges::any_of(tensors_of(inputs.problem, Pass::backward), [&](const TensorInfo& info) {
    return info.role == Role::gradient && by_name.contains(info.name);
  });
  stored.pass = split_pass(row).value_or(inputs.backward ? Pass::backward : Pass::forward);
  for (const TensorInfo& info : tensors_of(inputs.problem, stored.pass)) {
    const std::string name(info.name);
    auto node = by_name.extract(name);
    if (node.empty()) throw Error("tensor " + name + " is not stored");
    store::StoredTensor& tensor = node.mapped();
    if (tensor.shape != info.extents(inputs.problem)) {
      throw Error("tensor " + name + " does not have the shape of its problem");
    }
    if (info.is_result()) {
      stored.outputs.datasets[name] = {std::move(tensor.shape), std::move(tensor.data)};
    } else {
      inputs.tensors[name] = std::move(tensor.data);
    }
  }
  return stored;
}

std::string_view variant_of(const store::Row& row) {
  return row.variant == kFormerStaticVariant ? "fused" : std::string_view(row.variant);
}

std::vector<Plan> plan_row(const store::Row& row, const Problem& problem, Pass pass, const Choices& choices) {
  std::vector<Plan> plans;
  for (const Pass each : passes_before(pass)) {
    PlanOptions options = choices.plan_options(variant_of(row), each);
    const bool is_second = each == Pass::backward;
    if (options.arithmetic.empty()) options.arithmetic = is_second ? row.backward_arithmetic : row.arithmetic;
    // A variant on a GPU chooses its tiles for the GPU that is here.
    const bool has_choice = find_variant(options.variant).candidates != nullptr;
    if (options.tiling.empty() && has_choice) options.tiling = is_second ? row.backward_tiling : row.tiling;
    if (options.tiling.empty() && row.variant == kFormerStaticVariant) options.tiling = kStaticTiling;
    plans.push_back(make_plan(problem, each, options));
  }
  return plans;
}

}  // namespace nalab::cli
