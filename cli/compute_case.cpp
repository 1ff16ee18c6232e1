#include "cli/compute_case.h"

#include <algorithm>
#include <iterator>
#include <regex>

#include "core/error.h"
#include "core/simd/arithmetic.h"

namespace nalab::cli {

namespace {

/// Inputs and, for the backward pass, dout.
TensorSet tensors_for(const Problem& problem, bool backward) {
  const auto is_given = [](Role role) { return role == Role::input || role == Role::output_gradient; };
  return {problem, backward ? Pass::backward : Pass::forward, is_given};
}

/// Adds uninitialised datasets for the results of a bundle to the outputs. Returns the bundle of views of them.
template <class Bundle>
Bundle add_results(const Problem& problem, store::CaseOutputs& outputs) {
  Bundle bundle;
  visit_tensors(problem, bundle, [&](const TensorInfo& info, TensorView& view) {
    auto& dataset = outputs.datasets[std::string(info.name)];
    dataset.shape = info.extents(problem);
    dataset.data.resize(static_cast<std::size_t>(info.shape.elements()));
    view = contiguous_view(dataset.data.data(), info.shape);
  });
  return bundle;
}

Problem with_type(Problem problem, ElementType type) {
  problem.type = type;
  return problem;
}

}  // namespace

TypedCase::TypedCase(const store::Case& c, ElementType type)
    : problem_(with_type(c.problem, type)), tensors_(tensors_for(problem_, c.backward)) {
  for (auto& [info, tensor] : tensors_.entries()) {
    const std::vector<float>& values = c.tensors.find(info.name)->second;
    with_element_type(tensor.type(), [&](auto element) {
      using T = decltype(element);
      std::transform(values.begin(), values.end(), tensor.data<T>(), from_float<T>);
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
          .tiling = pass == Pass::forward ? tiling : backward_tiling,
          .isa = chosen_isa()};
}

CasePlans plan_case(const Problem& problem, bool backward, std::string_view variant, const Choices& choices) {
  const auto plan = [&](Pass pass) { return make_plan(problem, pass, choices.plan_options(variant, pass)); };
  return {plan(Pass::forward), backward ? std::optional(plan(Pass::backward)) : std::nullopt};
}

std::optional<std::string> why_not(const Variant& variant, const Problem& problem, Pass pass) {
  const auto reason = variant.supports(problem, Pass::forward);
  return reason || pass == Pass::forward ? reason : variant.supports(problem, Pass::backward);
}

store::CaseOutputs compute(const CasePlans& plans, const std::string& name, const TypedCase& c, Context& context) {
  store::CaseOutputs results{name, {}};
  const auto outputs = add_results<Outputs>(c.problem(), results);
  attention_forward(plans.forward, c.inputs(), outputs, context);
  if (plans.backward) {
    const auto gradients = add_results<Gradients>(c.problem(), results);
    attention_backward(*plans.backward, c.inputs(), {outputs.out, outputs.lse, c.dout()}, gradients, context);
  }
  return results;
}

verification::Expected ask_oracle(const TypedCase& c, bool backward, Context& context) {
  return verification::ask_oracle(c.problem(), c.inputs(), backward ? c.dout() : ConstTensorView{}, {},
                                  context.workers());
}

verification::VerificationResult compare_outputs(const Problem& problem, bool backward,
                                                 const store::CaseOutputs& computed,
                                                 const verification::Expected& expected, double factor) {
  return verification::compare_tensors(
      problem, backward ? Pass::backward : Pass::forward, expected,
      [&](const TensorInfo& info, const auto&) { return computed.datasets.at(std::string(info.name)).data; }, factor);
}

std::vector<std::string> matching(const std::vector<std::string>& names, const std::string& regex,
                                  const std::string& path) {
  std::vector<std::string> found;
  try {
    const std::regex expression(regex);
    std::copy_if(names.begin(), names.end(), std::back_inserter(found),
                 [&](const std::string& name) { return std::regex_search(name, expression); });
  } catch (const std::regex_error&) {
    throw Error("--cases '" + regex + "' is not a regular expression");
  }
  if (names.empty()) throw Error(path + ": contains nothing to compute");
  if (found.empty()) throw Error(path + ": --cases '" + regex + "' matches none of " + std::to_string(names.size()));
  return found;
}

}  // namespace nalab::cli
