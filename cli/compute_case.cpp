#include "cli/compute_case.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "core/error.h"
#include "core/operators/split_attention.h"
#include "core/simd/arithmetic.h"
#include "experiments/filter/filter.h"

namespace nalab::cli {

namespace {

bool is_given(Role role) { return role == Role::input || role == Role::output_gradient; }

/// Uninitialised datasets for the results of a pass, and views of them by name.
class Results {
 public:
  Results(const Problem& problem, Pass pass, store::CaseOutputs& outputs) : problem_(problem) {
    for (const TensorInfo& info : tensors_of(problem, pass)) {
      if (!info.is_result()) continue;
      auto& dataset = outputs.datasets[std::string(info.name)];
      dataset.shape = info.extents(problem);
      dataset.data.resize(static_cast<std::size_t>(info.shape.elements()));
      views_[info.name] = contiguous_view(dataset.data.data(), info.shape);
    }
  }

  /// Absent if there is no such result.
  TensorView view(std::string_view name) const {
    const auto found = views_.find(name);
    return found == views_.end() ? TensorView{} : found->second;
  }

  template <class Bundle>
  Bundle bundle() const {
    Bundle bundle;
    visit_tensors(problem_, bundle, [&](const TensorInfo& info, TensorView& v) { v = view(info.name); });
    return bundle;
  }

 private:
  const Problem& problem_;
  std::map<std::string_view, TensorView> views_;
};

/// Makes the call of a plan.
void call(const Plan& plan, const TypedCase& c, const Results& results, Context& context) {
  const TensorSet& given = c.tensors();
  switch (plan.pass()) {
    case Pass::forward:
      return attention_forward(plan, c.inputs(), results.bundle<Outputs>(), context);
    case Pass::backward:
      return attention_backward(plan, c.inputs(), {results.view("out"), results.view("lse"), given.view("dout")},
                                results.bundle<Gradients>(), context);
    case Pass::weights:
      return attention_weights(plan, c.inputs(), results.view("attn"), context);
    case Pass::weights_backward:
      return attention_weights_backward(plan, c.inputs(), given.view("dattn"), results.bundle<Gradients>(), context);
    case Pass::values:
      return attention_values(plan, given.view("attn"), c.inputs(), results.view("out"), context);
    case Pass::values_backward:
      return attention_values_backward(plan, given.view("attn"), c.inputs(), given.view("dout"), results.view("dattn"),
                                       results.bundle<Gradients>(), context);
  }
}

Problem with_type(Problem problem, ElementType type) {
  problem.type = type;
  return problem;
}

}  // namespace

TypedCase::TypedCase(const store::Case& c, ElementType type, Pass pass)
    : problem_(with_type(c.problem, type)), tensors_(problem_, pass, is_given) {
  for (auto& entry : tensors_.entries()) {
    const std::vector<float>& values = c.tensors.find(entry.info.name)->second;
    with_element_type(entry.tensor.type(), [&](auto element) {
      using T = decltype(element);
      std::transform(values.begin(), values.end(), entry.tensor.data<T>(), from_float<T>);
    });
  }
}

void Choices::add_options(CLI::App& command) {
  command.add_option("--isa", isa, "Instruction set; default: NALAB_ISA, else the best of this CPU");
  command.add_option("--arithmetic", arithmetic,
                     "Arithmetic to use wherever it computes a case; default: NALAB_ARITHMETIC, else by preference");
  command.add_option("--tiling", tiling,
                     "Tiling of the forward pass: best, static, or one as rows of results store it; see nalab list "
                     "tilings");
  command.add_option("--backward-tiling", backward_tiling, "The same for the backward pass");
}

Isa Choices::chosen_isa() const { return isa.empty() ? choose_isa() : parse_isa(isa); }

void Choices::check() const {
  chosen_isa();
  if (arithmetic.empty()) {
    forced_arithmetic();
  } else {
    find_arithmetic(arithmetic);
  }
  for (const std::string& name : {tiling, backward_tiling}) {
    if (!name.empty()) check_tiling_name(name);
  }
}

PlanOptions Choices::plan_options(std::string_view variant, Pass pass) const {
  return {.variant = variant,
          .arithmetic = arithmetic,
          .tiling = is_backward(pass) ? backward_tiling : tiling,
          .isa = chosen_isa()};
}

std::vector<Pass> passes_before(Pass pass) {
  if (pass == Pass::backward) return {Pass::forward, Pass::backward};
  return {pass};
}

std::vector<Plan> plan_case(const Problem& problem, Pass pass, std::string_view variant, const Choices& choices) {
  std::vector<Plan> plans;
  for (const Pass each : passes_before(pass)) {
    plans.push_back(make_plan(problem, each, choices.plan_options(variant, each)));
  }
  return plans;
}

std::optional<std::string> why_not(const Variant& variant, const Problem& problem, Pass pass) {
  for (const Pass each : passes_before(pass)) {
    if (auto reason = variant.supports(problem, each)) return reason;
  }
  return std::nullopt;
}

store::CaseOutputs compute(const std::vector<Plan>& plans, const std::string& name, const TypedCase& c,
                           Context& context) {
  store::CaseOutputs outputs{name, {}};
  const Results results(c.problem(), plans.back().pass(), outputs);
  for (const Plan& plan : plans) call(plan, c, results, context);
  return outputs;
}

verification::Expected ask_oracle(const TypedCase& c, Pass pass, Context& context) {
  if (is_split(pass)) {
    return verification::ask_split_oracle(c.problem(), pass, c.tensors(), {}, context.workers());
  }
  const ConstTensorView dout = pass == Pass::backward ? c.tensors().view("dout") : ConstTensorView{};
  return verification::ask_oracle(c.problem(), c.inputs(), dout, {}, context.workers());
}

verification::VerificationResult compare_outputs(const Problem& problem, Pass pass, const store::CaseOutputs& computed,
                                                 const verification::Expected& expected, double factor) {
  return verification::compare_tensors(
      problem, pass, expected,
      [&](const TensorInfo& info, const auto&) { return computed.datasets.at(std::string(info.name)).data; }, factor);
}

std::vector<std::string> matching(const std::vector<std::string>& names, const std::string& regex,
                                  const std::string& path) {
  const Filter filter("--cases", regex);
  std::vector<std::string> found;
  std::ranges::copy_if(names, std::back_inserter(found), [&](const std::string& name) { return filter.matches(name); });
  if (names.empty()) throw Error(path + ": contains nothing to compute");
  if (found.empty()) throw Error(path + ": --cases '" + regex + "' matches none of " + std::to_string(names.size()));
  return found;
}

}  // namespace nalab::cli
