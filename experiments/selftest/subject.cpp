#include "experiments/selftest/subject.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/compare.h"
#include "core/simd/arithmetic.h"
#include "experiments/selftest/random.h"
#include "experiments/verification/oracle.h"

namespace nalab::selftest {

namespace {

bool is_given(Role role) { return role == Role::input || role == Role::output_gradient; }
bool is_weights(std::string_view tensor) { return tensor == "attn" || tensor == "dattn"; }

double smallest(ElementType type) {
  return type == ElementType::f16 ? 0x1p-24 : type == ElementType::bf16 ? 0x1p-133 : 0x1p-149;
}
double greatest(ElementType type) {
  return type == ElementType::f16 ? 65504.0 : static_cast<double>(std::numeric_limits<float>::max());
}

template <class Value>
void fill(Tensor& tensor, Value value) {
  with_element_type(tensor.type(), [&](auto element) {
    using T = decltype(element);
    std::generate_n(tensor.data<T>(), tensor.elements(), [&] { return from_float<T>(static_cast<float>(value())); });
  });
}

template <class Value>
void set_where(Tensor& tensor, const std::vector<double>& marks, const Value& is_marked) {
  with_element_type(tensor.type(), [&](auto element) {
    using T = decltype(element);
    for (std::size_t i = 0; i < marks.size(); ++i) {
      if (is_marked(marks[i])) tensor.data<T>()[i] = from_float<T>(std::numeric_limits<float>::quiet_NaN());
    }
  });
}

void fill(Tensor& tensor, Values values, Random& random) {
  const auto normal = [&] { return random.normal(); };
  switch (values) {
    case Values::normal:
      return fill(tensor, normal);
    case Values::equal:
      return fill(tensor, [x = random.normal()] { return x; });
    case Values::tiny: {
      const bool tiny = random.chance(0.5);
      return fill(tensor, [&] { return random.normal() * (tiny ? 100 * smallest(tensor.type()) : 1.0); });
    }
    case Values::non_finite: {
      constexpr double kInfinity = std::numeric_limits<double>::infinity();
      const double bad = random.one_of(std::array{kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN()});
      const int64_t place = random.chance(0.5) ? random.pick(0, tensor.elements() - 1) : -1;
      return fill(tensor, [&, i = int64_t{0}]() mutable { return i++ == place ? bad : random.normal(); });
    }
  }
}

/// What stands in a slot that a causal axis hides must not matter.
void spoil_hidden_slots(const Problem& given, TensorSet& tensors) {
  Problem problem = given;
  problem.relative_bias = false;
  TensorSet zero(problem, Pass::weights, is_given);
  for (auto& entry : zero.entries()) fill(entry.tensor, [] { return 0.0; });
  const std::vector<double> scores = reference::weights(problem, zero.inputs());
  for (auto& [info, tensor] : tensors.entries()) {
    if (is_weights(info.name)) set_where(tensor, scores, [](double score) { return std::isinf(score); });
  }
}

/// The most terms of a sum over keys or over queries.
double most_terms(const Problem& problem) {
  const int64_t queries = problem.batch * problem.tokens() * problem.heads / problem.heads_kv;
  return static_cast<double>(std::max(problem.keys_per_query(), queries));
}

/// Sums of n equal terms are off by up to n 2^-24 of their size, since their rounding errors do not cancel: in float32,
/// of weights times values over keys, of gradients over queries, and of scores over channels, which pass on their
/// absolute error.
double errors_that_add_up(const Problem& problem, double score) {
  return 0x1p-24 * (most_terms(problem) + score * static_cast<double>(std::max(problem.head_dim, problem.head_dim_v)));
}

}  // namespace

Subject::Subject(const Trial& trial) : trial_(trial), given_(trial.problem, trial.pass, is_given) {
  uint64_t stream = 0;
  for (auto& [info, tensor] : given_.entries()) {
    if (is_weights(info.name) && trial.weights_are_f32) tensor = Tensor(ElementType::f32, info.shape);
    Random random{static_cast<uint64_t>(trial.seed), ++stream};
    fill(tensor, trial.values, random);
  }
  const bool hides = std::ranges::any_of(trial.problem.axes, [](const Axis& axis) { return axis.causal; });
  if (is_split(trial.pass) && hides) spoil_hidden_slots(trial.problem, given_);
  Workers alone(1);
  if (is_split(trial.pass)) {
    expected_ = verification::ask_split_oracle(trial.problem, trial.pass, given_, {}, alone);
  } else {
    const ConstTensorView dout = std::as_const(given_).view("dout");
    expected_ = verification::ask_oracle(trial.problem, given_.inputs(), dout, {}, alone);
  }
}

bool Subject::is_of(const Trial& trial) const {
  return trial.problem == trial_.problem && trial.pass == trial_.pass && trial.values == trial_.values &&
         trial.seed == trial_.seed && trial.weights_are_f32 == trial_.weights_are_f32;
}

Agreement Subject::judge(const verification::ComputedTensor& computed, const Plan& plan, bool results_are_f32) {
  Agreement agreement;
  const auto result = verification::compare_tensors(trial_.problem, trial_.pass, expected_, computed);
  const std::vector<TensorInfo> infos = tensors_of(trial_.problem, trial_.pass);
  for (const auto& [tensor, comparison] : result.tensors) {
    if (comparison.ok) {
      agreement.worst = std::max({agreement.worst, comparison.frobenius / comparison.bound.frobenius,
                                  comparison.max_abs / comparison.bound.max_abs});
      continue;
    }
    const TensorInfo& info = *std::ranges::find(infos, tensor, &TensorInfo::name);
    const bool is_f32 = is_weights(tensor) ? trial_.weights_are_f32 : results_are_f32;
    const ElementType stored = is_f32 || info.type == ElementType::f32 ? ElementType::f32 : info.type;
    // Matrix units, and instructions for dot products, take subnormal numbers as zero, and give none.
    const bool sums_are_normal = plan.arithmetic_name() != kF32Fma;
    if (agrees_for_its_terms(info, computed(info, std::nullopt), stored, sums_are_normal)) continue;
    agreement.fault += (agreement.fault.empty() ? "" : "; ") + tensor + ": " + comparison.to_string();
  }
  return agreement;
}

bool Subject::agrees_for_its_terms(const TensorInfo& info, const std::vector<float>& values, ElementType stored,
                                   bool sums_are_normal) {
  if (!sizes_) sizes_ = reference::term_sizes(trial_.problem, trial_.pass, given_);
  const std::vector<double>& expected = expected_.tensors.find(info.name)->second->values;
  const std::vector<double>& sizes = sizes_->of.at(info.name);
  const bool is_gradient = info.role == Role::gradient;
  const double score = std::max(sizes_->greatest_score, expected_.max_abs_score);
  Tolerance bound = tolerance(trial_.problem.type, is_gradient ? TensorKind::gradient : TensorKind::output, score);
  if (trial_.values == Values::equal) {
    const double more = errors_that_add_up(trial_.problem, score);
    bound = {bound.frobenius + more, bound.max_abs + more};
  }
  // Numbers below the smallest of a type become 0, in the result and in each term.
  const double smallest_term = 10 * std::max(1.0, std::abs(trial_.problem.effective_scale())) *
                               (sums_are_normal ? 0x1p-126 : smallest(ElementType::f32));
  const double lost = smallest(stored) + most_terms(trial_.problem) * smallest_term;
  double sum_errors = 0, sum_sizes = 0, greatest_error = 0, greatest_size = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double x = values[i], r = expected[i];
    if (std::isfinite(sizes[i])) {
      sum_sizes += sizes[i] * sizes[i];
      greatest_size = std::max(greatest_size, sizes[i]);
    }
    if ((std::isnan(x) && std::isnan(r)) || x == r) continue;
    // What is near the end of a type's range, or cancels to less than its terms' errors, may be infinite there.
    const double most = (x > 0 ? r : -r) + bound.max_abs * sizes[i];
    if (std::isinf(x) && std::isfinite(r) && most >= greatest(stored)) continue;
    if (!std::isfinite(x) || !std::isfinite(r) || !std::isfinite(sizes[i])) return false;
    const double error = std::max(0.0, std::abs(x - r) - lost);
    sum_errors += error * error;
    greatest_error = std::max(greatest_error, error);
  }
  return std::sqrt(sum_errors) <= bound.frobenius * std::sqrt(sum_sizes) &&
         greatest_error <= bound.max_abs * greatest_size;
}

}  // namespace nalab::selftest
