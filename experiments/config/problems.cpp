#include "experiments/config/problems.h"

#include "core/error.h"
#include "core/simulator/counting.h"
#include "experiments/config/forms.h"
#include "experiments/config/where.h"

namespace nalab::config {

namespace {

constexpr const char* kQuick = "quick";
constexpr const char* kWhere = "where";
constexpr const char* kRows = "rows";
/// Nobody runs more combinations than this: more of them are a mistake in the grid.
constexpr int64_t kMostCombinations = 100'000;

/// The keys of a problem, and more.
std::vector<std::string> problem_keys(const std::vector<std::string>& more) {
  std::vector<std::string> known = keys_of<ProblemSettings>();
  known.insert(known.end(), more.begin(), more.end());
  return known;
}

void require_key(const Field& mapping, const std::vector<Field>& entries, const std::string& key) {
  if (find(entries, key) == nullptr) mapping.refuse("the key " + key, "none");
}

/// Applies a single value to all axes; refuses a list whose length is not the layout's.
template <class T>
void spread(std::vector<T>& values, std::size_t rank, const char* key, const std::vector<Field>& entries) {
  if (values.size() == 1) values.assign(rank, values.front());
  if (values.size() == rank) return;
  const std::string axes = std::to_string(rank) + (rank == 1 ? " axis" : " axes");
  find(entries, key)->refuse("one value, or one for each axis of the layout of " + axes);
}

/// Gives every per-axis list of a problem read from the entries one value for each axis.
void spread(ProblemSettings& settings, const std::vector<Field>& entries) {
  const std::size_t rank = settings.layout.size();
  if (rank > geometry::kAxes) find(entries, "layout")->refuse("one to three values");
  spread(settings.window, rank, "window", entries);
  spread(settings.stride, rank, "stride", entries);
  spread(settings.dilation, rank, "dilation", entries);
  spread(settings.causal, rank, "causal", entries);
}

ProblemSettings read_settings(const std::vector<Field>& entries) {
  ProblemSettings settings;
  read_fields(entries, settings);
  spread(settings, entries);
  return settings;
}

/// The rules that the problem breaks, in one line; empty for a valid one.
std::string complaint(const ProblemSettings& settings) {
  std::string sentence;
  for (const Violation& v : settings.problem(ElementType::f32).violations()) {
    sentence += (sentence.empty() ? "" : "; ") + v.to_string();
  }
  return sentence;
}

/// One simulation from its keys in `mapping`.
SimulationSettings read_simulation(const Field& mapping, const std::vector<Field>& entries) {
  for (const char* key : {"layout", "window", "q_tile", "kv_tile"}) require_key(mapping, entries, key);
  SimulationSettings settings;
  read_fields(entries, settings);
  spread(settings.problem, entries);
  const std::size_t rank = settings.problem.layout.size();
  spread(settings.q_tile, rank, "q_tile", entries);
  spread(settings.kv_tile, rank, "kv_tile", entries);
  if (const std::string sentence = complaint(settings.problem); !sentence.empty()) mapping.complain(sentence);
  try {
    simulator::validate(settings.problem.problem(ElementType::f32), settings.tiles());
    settings.application.validate();
  } catch (const Error& error) {
    mapping.complain(error.what());
  }
  return settings;
}

/// A key of a grid with its values, one of which is chosen at a time.
struct Alternatives {
  std::vector<Field> values;
  std::size_t chosen = 0;
};

/// Goes to the next combination, the last key fastest; false after the last one.
bool advance(std::vector<Alternatives>& grid) {
  for (auto it = grid.rbegin(); it != grid.rend(); ++it) {
    if (++it->chosen < it->values.size()) return true;
    it->chosen = 0;
  }
  return false;
}

}  // namespace

ProblemSettings read_problem(const Field& entry, Form form) {
  const std::vector<Field> entries = entries_in_form(entry, form, problem_keys({}));
  require_key(entry, entries, "layout");
  require_key(entry, entries, "window");
  ProblemSettings settings = read_settings(entries);
  if (const std::string sentence = complaint(settings); !sentence.empty()) entry.complain(sentence);
  return settings;
}

std::vector<ProblemSettings> read_grid(const Field& entry, Form form) {
  const std::vector<Field> entries = entries_in_form(entry, form, problem_keys({kWhere}));
  require_key(entry, entries, "layout");
  require_key(entry, entries, "window");

  std::vector<Field> conditions;
  std::vector<Alternatives> grid;
  int64_t combinations = 1;
  for (const Field& field : entries) {
    if (field.key() == kQuick) continue;
    if (field.key() == kWhere) {
      conditions = field.elements();
      continue;
    }
    if (field.key() == "label" && !field.node().IsScalar()) field.refuse("one text for the whole grid");
    grid.push_back({field.elements()});
    combinations *= static_cast<int64_t>(grid.back().values.size());
    if (combinations > kMostCombinations) {
      entry.refuse("at most " + std::to_string(kMostCombinations) + " combinations", "more");
    }
  }

  std::vector<ProblemSettings> kept;
  do {
    std::vector<Field> chosen;
    for (const Alternatives& key : grid) chosen.push_back(key.values[key.chosen]);
    const ProblemSettings settings = read_settings(chosen);
    const Problem problem = settings.problem(ElementType::f32);
    bool keep = true;
    for (const Field& condition : conditions) {
      std::string text;
      read(condition, text, Anything{});
      try {
        keep = holds(text, problem) && keep;
      } catch (const Error& error) {
        condition.complain(error.what());
      }
    }
    if (!keep) continue;
    if (const std::string sentence = complaint(settings); !sentence.empty()) {
      entry.complain("combination " + problem.id() + ": " + sentence);
    }
    kept.push_back(settings);
  } while (advance(grid));
  if (kept.empty()) {
    entry.refuse("at least one combination that meets `where`", "none of " + std::to_string(combinations));
  }
  return kept;
}

std::vector<SimulationSettings> read_simulations(const Field& entry) {
  const std::vector<std::string> known = keys_of<SimulationSettings>();
  std::vector<std::string> known_outside = known;
  known_outside.emplace_back(kRows);
  const std::vector<Field> shared = entry.entries();
  refuse_unknown(shared, known_outside);
  const Field* rows = find(shared, kRows);
  if (rows == nullptr) return {read_simulation(entry, shared)};

  std::vector<SimulationSettings> simulations;
  for (const Field& row : rows->elements()) {
    const std::vector<Field> own = row.entries();
    refuse_unknown(own, known);
    simulations.push_back(read_simulation(row, overridden(shared, own)));
  }
  return simulations;
}

}  // namespace nalab::config
