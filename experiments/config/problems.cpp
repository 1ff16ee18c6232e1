#include "experiments/config/problems.h"

#include "core/error.h"
#include "experiments/config/where.h"

namespace nalab::config {

namespace {

constexpr const char* kQuick = "quick";
constexpr const char* kWhere = "where";
/// More combinations than anyone runs: a mistake in the grid.
constexpr int64_t kMostCombinations = 100'000;

/// The entries of a mapping with those under `quick` in place of the ones of the same key, or after them.
/// Refuses keys that are not known.
std::vector<Field> entries_in_form(const Field& mapping, Form form, const std::vector<std::string>& extra_keys) {
  std::vector<std::string> known = keys_of<ProblemSettings>();
  known.insert(known.end(), extra_keys.begin(), extra_keys.end());
  std::vector<std::string> known_outside = known;
  known_outside.emplace_back(kQuick);
  std::vector<Field> entries = mapping.entries();
  refuse_unknown(entries, known_outside);
  if (form == Form::full) return entries;
  const Field* quick = find(entries, kQuick);
  if (quick == nullptr) return entries;
  const std::vector<Field> overrides = quick->entries();
  refuse_unknown(overrides, known);
  for (const Field& override_entry : overrides) {
    const auto same_key = [&](const Field& f) { return f.key() == override_entry.key(); };
    const auto it = std::find_if(entries.begin(), entries.end(), same_key);
    if (it == entries.end()) {
      entries.push_back(override_entry);
    } else {
      *it = override_entry;
    }
  }
  return entries;
}

void require_key(const Field& mapping, const std::vector<Field>& entries, const std::string& key) {
  if (find(entries, key) == nullptr) mapping.refuse("the key " + key, "none");
}

/// Lets one value stand for all axes; refuses a list of another length than the layout's.
template <class T>
void spread(std::vector<T>& values, std::size_t rank, const char* key, const std::vector<Field>& entries) {
  if (values.size() == 1) values.assign(rank, values.front());
  if (values.size() == rank) return;
  const std::string axes = std::to_string(rank) + (rank == 1 ? " axis" : " axes");
  find(entries, key)->refuse("one value, or one for each axis of the layout of " + axes);
}

/// Reads the entries and gives every per-axis list one value for each axis.
ProblemSettings read_settings(const std::vector<Field>& entries) {
  ProblemSettings settings;
  read_fields(entries, settings);
  const std::size_t rank = settings.layout.size();
  if (rank > geometry::kAxes) find(entries, "layout")->refuse("one to three values");
  spread(settings.window, rank, "window", entries);
  spread(settings.stride, rank, "stride", entries);
  spread(settings.dilation, rank, "dilation", entries);
  spread(settings.causal, rank, "causal", entries);
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
  const std::vector<Field> entries = entries_in_form(entry, form, {});
  require_key(entry, entries, "layout");
  require_key(entry, entries, "window");
  ProblemSettings settings = read_settings(entries);
  if (const std::string sentence = complaint(settings); !sentence.empty()) entry.complain(sentence);
  return settings;
}

std::vector<ProblemSettings> read_grid(const Field& entry, Form form) {
  const std::vector<Field> entries = entries_in_form(entry, form, {kWhere});
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

}  // namespace nalab::config
