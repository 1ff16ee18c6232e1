// What the runs of a configuration ask for: all of its problems, or a stratified sample.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "experiments/config/config.h"

namespace nalab::config {

namespace {

/// The values of the strata's keys, one after the other.
std::string stratum_of(const ProblemSettings& problem, const std::vector<std::string>& strata) {
  std::string text;
  ProblemSettings::visit_fields(problem, [&]<class T>(const char* key, const T& value, const auto&) {
    if (std::find(strata.begin(), strata.end(), key) == strata.end()) return;
    if constexpr (requires { value.has_value(); }) {
      text += value ? fmt::format("{};", *value) : ";";
    } else {
      text += fmt::format("{};", value);
    }
  });
  return text;
}

/// std::shuffle gives different orders with different standard libraries.
void shuffle(std::vector<std::size_t>& indices, std::mt19937_64& random) {
  for (std::size_t left = indices.size(); left > 1; --left) std::swap(indices[left - 1], indices[random() % left]);
}

/// Indices of a sample, in increasing order. All problems are lined up stratum by stratum, in random order within
/// each, and picked at equal distances: each stratum gets its share, rounded up or down.
std::vector<std::size_t> choose(const std::vector<ProblemSettings>& problems, const Stratified& sample) {
  std::vector<std::size_t> line(problems.size());
  std::iota(line.begin(), line.end(), std::size_t{0});
  const auto count = static_cast<std::size_t>(sample.count);
  if (count >= line.size()) return line;

  std::vector<std::string> strata;
  for (const ProblemSettings& problem : problems) strata.push_back(stratum_of(problem, sample.strata));
  std::mt19937_64 random(static_cast<uint64_t>(sample.seed));
  shuffle(line, random);
  std::stable_sort(line.begin(), line.end(), [&](std::size_t a, std::size_t b) { return strata[a] < strata[b]; });

  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < count; ++i) chosen.push_back(line[(2 * i + 1) * line.size() / (2 * count)]);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace

void read(const Field& field, Stratified& sample, Anything) {
  const std::vector<Field> entries = field.entries();
  refuse_unknown(entries, keys_of<Stratified>());
  if (find(entries, "count") == nullptr) field.refuse("the key count", "none");
  read_fields(entries, sample);
}

std::vector<std::string> stratum_keys() { return keys_of<ProblemSettings>(); }

Selection select(const Config& config, const Run& run) {
  Selection selection{run.types, run.passes, {}};
  if (selection.types.empty()) selection.types = config.settings.types;
  if (selection.passes.empty()) selection.passes = config.settings.passes;
  if (!run.sample) {
    for (const ProblemSettings& problem : config.problems) selection.problems.push_back(&problem);
    return selection;
  }
  for (const std::size_t i : choose(config.problems, *run.sample)) selection.problems.push_back(&config.problems[i]);
  return selection;
}

}  // namespace nalab::config
