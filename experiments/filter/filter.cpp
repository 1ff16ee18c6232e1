#include "experiments/filter/filter.h"

#include <re2/re2.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/kernels/registry.h"

namespace nalab {

namespace {

/// A limit, so that no expression nests without end.
constexpr std::size_t kLongest = 10'000;

/// The beginning of a text, which may be long and hold anything.
std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 60;
  return std::string(text.substr(0, kShown)) + (text.size() > kShown ? "..." : "");
}

/// Whether a variant stands for the baseline. Files may have variants that this build lacks.
bool is_self_attention(const std::string& name) {
  return std::ranges::any_of(
      variants(), [&name](const Variant& variant) { return variant.name == name && variant.self_attention_only; });
}

}  // namespace

Filter::Filter(std::string_view option, std::string expression) : expression_(std::move(expression)) {
  const std::string begin = std::string(option) + " '" + shown(expression_);
  if (expression_.size() > kLongest) {
    throw Error(begin + "' must be a regular expression of at most " + std::to_string(kLongest) + " characters");
  }
  re2::RE2::Options options;
  options.set_log_errors(false);
  compiled_ = std::make_unique<re2::RE2>(expression_, options);
  if (compiled_->ok()) return;
  throw Error(begin + "' is not a regular expression: " + shown(compiled_->error()));
}

Filter::~Filter() = default;
Filter::Filter(Filter&&) noexcept = default;

bool Filter::matches(std::string_view text) const {
  return re2::RE2::PartialMatch({text.data(), text.size()}, *compiled_);
}

int64_t keep_matching(store::Results& results, const Filter& filter, AlsoKept also) {
  const auto matches = [&filter](const auto& row) { return filter.matches(row.id) || filter.matches(row.label); };
  std::set<std::pair<std::string, std::string>> compared_with;  // problem and pass
  int64_t count = 0;
  for (const store::Row& row : results.rows) {
    if (!matches(row)) continue;
    ++count;
    if (also == AlsoKept::self_attention) compared_with.emplace(row.baseline, row.pass);
  }
  std::erase_if(results.rows, [&](const store::Row& row) {
    const bool is_compared_with = is_self_attention(row.variant) && compared_with.contains({row.problem, row.pass});
    return !matches(row) && !is_compared_with;
  });
  std::erase_if(results.models, [&](const store::ModelRow& row) { return !matches(row); });
  std::erase_if(results.simulations, [&](const store::SimulationRow& row) { return !matches(row); });
  return count + std::ssize(results.models) + std::ssize(results.simulations);
}

}  // namespace nalab
