// What the runs of a configuration ask for: all of its problems, those of some labels, or a stratified sample.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "core/kernels/registry.h"
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

using Problems = std::vector<const ProblemSettings*>;

/// A sample in the order of the problems. All are lined up stratum by stratum, in random order within each, and picked
/// at equal distances: each stratum gets its share, rounded up or down.
Problems choose(const Problems& problems, const Stratified& sample) {
  std::vector<std::size_t> line(problems.size());
  std::iota(line.begin(), line.end(), std::size_t{0});
  const auto count = static_cast<std::size_t>(sample.count);
  if (count >= line.size()) return problems;

  std::vector<std::string> strata;
  for (const ProblemSettings* problem : problems) strata.push_back(stratum_of(*problem, sample.strata));
  std::mt19937_64 random(static_cast<uint64_t>(sample.seed));
  shuffle(line, random);
  std::stable_sort(line.begin(), line.end(), [&](std::size_t a, std::size_t b) { return strata[a] < strata[b]; });

  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < count; ++i) chosen.push_back(line[(2 * i + 1) * line.size() / (2 * count)]);
  std::sort(chosen.begin(), chosen.end());
  Problems sampled;
  for (const std::size_t i : chosen) sampled.push_back(problems[i]);
  return sampled;
}

/// The values that a run has, otherwise those of the settings.
template <class T>
const std::vector<T>& own_or(const std::vector<T>& own, const std::vector<T>& of_settings) {
  return own.empty() ? of_settings : own;
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
  const Settings& settings = config.settings;
  Selection selection{own_or(run.types, settings.types),
                      own_or(run.passes, settings.passes),
                      own_or(run.variants, settings.variants),
                      {},
                      {}};
  std::erase_if(selection.variants,
                [&run](const std::string& name) { return run.device && find_variant(name).device != *run.device; });
  const auto is_wanted = [&run](const std::string& label) {
    return run.labels.empty() || std::ranges::find(run.labels, label) != run.labels.end();
  };
  for (const ProblemSettings& problem : config.problems) {
    if (is_wanted(problem.label)) selection.problems.push_back(&problem);
  }
  for (const ModelSettings& model : config.models) {
    if (is_wanted(model.label)) selection.models.push_back(&model);
  }
  if (run.sample) selection.problems = choose(selection.problems, *run.sample);
  return selection;
}

}  // namespace nalab::config
