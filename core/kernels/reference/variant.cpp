#include <initializer_list>
#include <utility>

#include "core/kernels/reference/reference.h"
#include "core/kernels/variants.h"

namespace nalab::reference {

namespace {

/// Takes the values over.
NamedResults named(std::initializer_list<std::pair<std::string_view, std::vector<double>*>> results) {
  NamedResults all;
  for (const auto& [name, values] : results) all[name] = std::move(*values);
  return all;
}

}  // namespace

NamedResults by_name(Forward results) { return named({{"out", &results.out}, {"lse", &results.lse}}); }

NamedResults by_name(Backward results) {
  return named({{"dq", &results.dq},
                {"dk", &results.dk},
                {"dv", &results.dv},
                {"dextra_k", &results.dextra_k},
                {"dextra_v", &results.dextra_v},
                {"drpb", &results.drpb}});
}

NamedResults by_name(WeightsBackward results) {
  return named({{"dq", &results.dq}, {"dk", &results.dk}, {"dextra_k", &results.dextra_k}, {"drpb", &results.drpb}});
}

NamedResults by_name(ValuesBackward results) {
  return named({{"dattn", &results.dattn}, {"dv", &results.dv}, {"dextra_v", &results.dextra_v}});
}

NamedResults by_name(QueryGradients results) { return named({{"dq", &results.dq}}); }

NamedResults by_name(KeyGradients results, bool extra) {
  return named({{extra ? "dextra_k" : "dk", &results.dk}, {extra ? "dextra_v" : "dv", &results.dv}});
}

namespace {

/// Rounds to the element type of a tensor and stores; values are contiguous in the order of the view's extents.
void store(const std::vector<double>& values, const TensorView& target) {
  with_element_type(target.type, [&](auto element) {
    using T = decltype(element);
    const TokenView<T> view = target.as<T>();
    const TokenShape& s = target.shape;
    std::size_t i = 0;
    for (int64_t b = 0; b < s.batch; ++b) {
      for (int64_t x1 = 0; x1 < s.layout[0]; ++x1) {
        for (int64_t x2 = 0; x2 < s.layout[1]; ++x2) {
          for (int64_t x3 = 0; x3 < s.layout[2]; ++x3) {
            for (int64_t h = 0; h < s.heads; ++h) {
              T* data = view.row(b, x1, x2, x3, h);
              for (int64_t c = 0; c < s.dim; ++c) data[c] = from_float<T>(static_cast<float>(values[i++]));
            }
          }
        }
      }
    }
  });
}

/// Stores the results that a bundle has.
template <class Bundle>
void store(const Problem& problem, const NamedResults& results, const Bundle& bundle) {
  visit_tensors(problem, bundle,
                [&](const TensorInfo& info, const TensorView& view) { store(results.at(info.name), view); });
}

void run_forward(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution&) {
  store(plan.problem(), by_name(forward(plan.problem(), inputs)), outputs);
}

void run_backward(const Plan& plan, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
                  const Execution&) {
  store(plan.problem(), by_name(backward(plan.problem(), inputs, saved.dout)), gradients);
}

/// Stores the gradients of the inputs that a split operator reads.
void store_part(const Plan& plan, const NamedResults& results, const Gradients& gradients) {
  visit_tensors(plan.problem(), gradients, [&](const TensorInfo& info, const TensorView& view) {
    if (results.contains(info.name)) store(results.at(info.name), view);
  });
}

constexpr SplitOperators kSplitOperators{
    .weights = [](const Plan& plan, const Inputs& inputs, const TensorView& attn,
                  const Execution&) { store(weights(plan.problem(), inputs), attn); },
    .weights_backward =
        [](const Plan& plan, const Inputs& inputs, const ConstTensorView& dattn, const Gradients& gradients,
           const Execution&) { store_part(plan, by_name(weights_backward(plan.problem(), inputs, dattn)), gradients); },
    .values = [](const Plan& plan, const ConstTensorView& attn, const Inputs& inputs, const TensorView& out,
                 const Execution&) { store(values(plan.problem(), attn, inputs), out); },
    .values_backward =
        [](const Plan& plan, const ConstTensorView& attn, const Inputs& inputs, const ConstTensorView& dout,
           const TensorView& dattn, const Gradients& gradients, const Execution&) {
          const NamedResults results = by_name(values_backward(plan.problem(), attn, inputs, dout));
          store(results.at("dattn"), dattn);
          store_part(plan, results, gradients);
        },
};

}  // namespace

Variant variant() {
  return {
      .name = "reference",
      .paper_term = "reference mask (by definition)",
      .summary = "Double, scalar, by membership test: the oracle of every other variant.",
      .is_oracle = true,
      .expected_flops_per_second = 1e9,
      .supports = [](const Problem&, Pass) -> std::optional<std::string> { return std::nullopt; },
      .takes = [](const Arithmetic& arithmetic, Pass) { return arithmetic.name == kF64Scalar; },
      .cost = [](const PlanChoice& choice) -> PlanCost {
        return {.executed_flops = choice.problem.useful_flops(choice.pass)};
      },
      .forward = run_forward,
      .backward = run_backward,
      .split = &kSplitOperators,
  };
}

}  // namespace nalab::reference
