#include "experiments/selftest/check.h"

#include <bit>
#include <cmath>
#include <exception>
#include <new>

#include "core/attention.h"
#include "core/operators/split_attention.h"
#include "experiments/selftest/placed_tensor.h"

namespace nalab::selftest {

namespace {

/// The tensors of a trial's calls.
class Tensors {
 public:
  Tensors(const Trial& trial, const TensorSet& given) : trial_(trial), given_(given) {
    for (const TensorInfo& info : tensors_of(trial.problem, trial.pass)) {
      const Tensor* source = given.find(info.name);
      auto& tensor = tensors_
                         .try_emplace(info.name, source != nullptr ? source->type() : type_of(info), info.shape,
                                      trial.placement(info.name))
                         .first->second;
      if (source != nullptr) tensor.set(*source);
    }
  }

  TensorView view(std::string_view name) {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? TensorView{} : found->second.view();
  }

  template <class Bundle>
  Bundle bundle() {
    Bundle bundle;
    visit_tensors(trial_.problem, bundle, [&](const TensorInfo& info, auto& tensor) { tensor = view(info.name); });
    return bundle;
  }

  bool in_a_row() {
    bool all = true;
    for (const TensorInfo& info : tensors_of(trial_.problem, trial_.pass)) {
      if (info.over == Over::layout) all = all && tokens_in_a_row(view(info.name));
    }
    return all;
  }

  void call(const Plan& plan, Context& context) {
    const auto inputs = bundle<Inputs>();
    switch (plan.pass()) {
      case Pass::forward:
        return attention_forward(plan, inputs, bundle<Outputs>(), context);
      case Pass::backward:
        return attention_backward(plan, inputs, bundle<SavedForBackward>(), bundle<Gradients>(), context);
      case Pass::weights:
        return attention_weights(plan, inputs, view("attn"), context);
      case Pass::weights_backward:
        return attention_weights_backward(plan, inputs, view("dattn"), bundle<Gradients>(), context);
      case Pass::values:
        return attention_values(plan, view("attn"), inputs, view("out"), context);
      case Pass::values_backward:
        return attention_values_backward(plan, view("attn"), inputs, view("dout"), view("dattn"), bundle<Gradients>(),
                                         context);
    }
  }

  std::vector<float> values(std::string_view name) { return tensors_.at(name).values(); }

  /// Names a tensor that was written to where it must not be. Overwrites the results.
  std::string overwritten() {
    for (auto& [name, tensor] : tensors_) {
      const Tensor* source = given_.find(name);
      if (source != nullptr && !same_bits(tensor.values(), to_floats(*source))) return "wrote to " + std::string(name);
      if (!tensor.surroundings_intact()) return "wrote outside " + std::string(name);
    }
    return "";
  }

  /// Names a result whose bits differ; NaN is as good as any other NaN.
  std::string unlike(Tensors& other) {
    for (const TensorInfo& info : tensors_of(trial_.problem, trial_.pass)) {
      if (info.is_result() && !same_bits(values(info.name), other.values(info.name))) return std::string(info.name);
    }
    return "";
  }

 private:
  ElementType type_of(const TensorInfo& result) const {
    const bool is_weights = result.name == "attn" || result.name == "dattn";
    return (is_weights ? trial_.weights_are_f32 : trial_.results_are_f32) ? ElementType::f32 : result.type;
  }

  static bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      const bool same = std::bit_cast<uint32_t>(a[i]) == std::bit_cast<uint32_t>(b[i]);
      if (!same && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
    }
    return true;
  }

  const Trial& trial_;
  const TensorSet& given_;
  std::map<std::string_view, PlacedTensor> tensors_;
};

}  // namespace

std::vector<Plan> plans_of(const Trial& trial, bool in_a_row) {
  PlanOptions options{
      .variant = trial.variant, .arithmetic = trial.arithmetic, .isa = trial.isa, .tokens_in_a_row = in_a_row};
  std::vector<Plan> plans;
  if (trial.pass == Pass::backward) plans.push_back(make_plan(trial.problem, Pass::forward, options));
  options.tiling = trial.tiling;
  plans.push_back(make_plan(trial.problem, trial.pass, options));
  return plans;
}

Agreement Checker::check(const Trial& trial) {
  if (!subject_ || !subject_->is_of(trial)) subject_.emplace(trial);
  for (const int threads : trial.threads) context_of(threads);  // that they cannot be started says nothing of the trial
  try {
    Tensors first(trial, subject_->given());
    const std::vector<Plan> plans = plans_of(trial, first.in_a_row());
    const auto call = [&](Tensors& tensors, int threads) {
      for (const Plan& plan : plans) tensors.call(plan, context_of(threads));
    };
    call(first, trial.threads.front());
    Agreement agreement = subject_->judge([&](const TensorInfo& info, const auto&) { return first.values(info.name); },
                                          plans.back(), trial.results_are_f32);
    for (std::size_t i = 1; i < trial.threads.size() && agreement.fault.empty(); ++i) {
      Tensors again(trial, subject_->given());
      call(again, trial.threads[i]);
      if (const std::string tensor = first.unlike(again); !tensor.empty()) {
        agreement.fault = tensor + ": other bits with " + std::to_string(trial.threads[i]) + " threads than with " +
                          std::to_string(trial.threads.front());
      }
      if (agreement.fault.empty()) agreement.fault = again.overwritten();
    }
    if (agreement.fault.empty()) agreement.fault = first.overwritten();
    return agreement;
  } catch (const std::bad_alloc&) {
    throw;  // nor does this
  } catch (const std::exception& error) {
    return {.fault = std::string("throws '") + error.what() + "'"};
  }
}

}  // namespace nalab::selftest
