// nalab verify: recomputes what a case file expects or a results file has stored, and compares.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/compute_case.h"
#include "cli/options.h"
#include "cli/stored_case.h"
#include "cli/verify_table.h"
#include "core/error.h"
#include "core/parallel.h"
#include "store/cases.h"
#include "store/results.h"

namespace nalab::cli {

namespace {

/// Factor of the bounds for recomputed results: they and the stored ones both carry an error.
constexpr double kBothSides = 2;

struct VerifyOptions {
  std::string file;
  std::string variant = "all";
  std::string type;   ///< empty: f32 for cases, all for results
  std::string cases;  ///< regular expression
  Choices choices;
  int threads = 0;  ///< 0: NALAB_THREADS, else the hardware's
};

/// A way to compute a case.
struct Way {
  std::string label;  ///< the variant, and the tiling if it is compared with another one
  const Variant* variant;
  Choices choices;
};

bool has_static_tiling(const Variant& variant, const Problem& problem) {
  if (variant.candidates == nullptr || why_not(variant, problem, Pass::forward)) return false;
  return std::ranges::any_of(
      variant.candidates(problem, Pass::forward, find_arithmetic(kF32Fma), host_machine(), kAllCandidates),
      &Tiling::has_static_kv);
}

/// The variant that the options ask for, or all: then with static KV tiling as well, where there is one and no tiling
/// is asked for.
std::vector<Way> ways_to_compute(const Problem& problem, const VerifyOptions& options) {
  if (options.variant != "all") return {{options.variant, &find_variant(options.variant), options.choices}};
  std::vector<Way> ways;
  for (const Variant& variant : variants()) {
    if (why_not_here(variant.device)) continue;
    ways.push_back({std::string(variant.name), &variant, options.choices});
    const Choices& choices = options.choices;
    if (!choices.tiling.empty() || !choices.backward_tiling.empty() || !has_static_tiling(variant, problem)) continue;
    Way way{fmt::format("{} {}", variant.name, kStaticTiling), &variant, choices};
    way.choices.tiling = way.choices.backward_tiling = kStaticTiling;
    ways.push_back(way);
  }
  return ways;
}

std::vector<ElementType> chosen_types(const std::string& option) {
  if (option == "all") return {ElementType::f32, ElementType::bf16, ElementType::f16};
  return {parse_element_type(option)};
}

/// The expected results of a file with what the oracle says beside them.
verification::Expected expected_of(const store::Case& c, const verification::Expected& oracle) {
  verification::Expected expected = oracle;
  for (const auto& [name, values] : c.expected) expected.set(name, {.values = values});
  return expected;
}

/// Computes a case in every way and compares.
void verify_case(const store::Case& c, ElementType type, const VerifyOptions& options, VerifyTable& table,
                 Context& context) {
  const Pass most = c.backward ? Pass::backward : Pass::forward;
  const TypedCase typed(c, type, most);
  // The file's expected results hold for its float32 inputs, not for rounded ones.
  const bool as_in_file = type == ElementType::f32;
  std::optional<verification::Expected> expected;
  for (const auto& [label, variant, choices] : ways_to_compute(typed.problem(), options)) {
    if (const auto reason = why_not(*variant, typed.problem(), Pass::forward)) {
      table.skip(c.name, label, type, *reason);
      continue;
    }
    const auto no_gradients = why_not(*variant, typed.problem(), Pass::backward);
    const Pass pass = no_gradients ? Pass::forward : most;
    std::vector<Plan> plans;
    try {
      plans = plan_case(typed.problem(), pass, variant->name, choices);
    } catch (const Error& error) {
      table.skip(c.name, label, type, error.what());
      continue;
    }
    if (!expected) {
      expected = ask_oracle(typed, as_in_file ? Pass::forward : most, context);
      if (as_in_file) expected = expected_of(c, *expected);
    }
    const auto computed = compute(plans, c.name, typed, context);
    table.add({c.name, label, type, as_in_file ? "new, expected" : "new, oracle"}, computed,
              compare_outputs(typed.problem(), pass, computed, *expected),
              c.backward && no_gradients ? " (out and lse only: " + *no_gradients + ")" : "");
  }
}

int verify_cases(const VerifyOptions& options, Context& context) {
  const auto types = chosen_types(options.type.empty() ? "f32" : options.type);
  if (options.variant != "all") find_variant(options.variant);
  const auto names = matching(store::case_names(options.file), options.cases, options.file);
  VerifyTable table(names);
  for (const std::string& name : names) {
    for (const ElementType type : types) {
      const store::Case c = store::read_case(options.file, name, type);
      if (c.has_expected) {
        verify_case(c, type, options, table, context);
      } else {
        table.skip(name, "", type, "the group has no expected tensors");
      }
    }
  }
  return table.finish(options.file);
}

/// What is stored, as what is expected; with the magnitudes of the oracle.
verification::Expected expected_of(const store::CaseOutputs& stored, const verification::Expected& oracle) {
  verification::Expected expected = oracle;
  for (const auto& [name, dataset] : stored.datasets) {
    expected.set(name, {.values = {dataset.data.begin(), dataset.data.end()}});
  }
  return expected;
}

/// Compares the stored results of a row with the oracle, and what its variant recomputes with the stored results.
void verify_row(const store::Row& row, const StoredCase& stored, const Choices& choices, VerifyTable& table,
                Context& context) {
  const Variant& variant = find_variant(variant_of(row));
  const Pass pass = stored.pass;
  const TypedCase typed(stored.inputs, stored.inputs.problem.type, pass);
  const Problem& problem = typed.problem();
  const verification::Expected oracle = ask_oracle(typed, pass, context);
  table.add({row.id, row.variant, problem.type, "stored, oracle"}, stored.outputs,
            compare_outputs(problem, pass, stored.outputs, oracle));

  if (const auto reason = why_not(variant, problem, pass)) {
    table.skip(row.id, row.variant, problem.type, *reason);
    return;
  }
  std::vector<Plan> plans;
  try {
    plans = plan_row(row, problem, pass, choices);
  } catch (const Error& error) {
    table.skip(row.id, row.variant, problem.type, error.what());
    return;
  }
  const auto computed = compute(plans, row.id, typed, context);
  table.add({row.id, row.variant, problem.type, "new, stored"}, computed,
            compare_outputs(problem, pass, computed, expected_of(stored.outputs, oracle), kBothSides));
}

int verify_results(const VerifyOptions& options, Context& context) {
  if (options.variant != "all") find_variant(options.variant);
  const auto types = chosen_types(options.type.empty() ? "all" : options.type);
  const store::Results results = store::read_results(options.file);
  std::vector<std::string> ids;
  for (const store::Row& row : results.rows) ids.push_back(row.id);
  ids = matching(ids, options.cases, options.file);

  VerifyTable table(ids);
  int stored = 0, not_stored = 0;
  const auto within_row = [&](const store::Row& row, const auto& body) {
    try {
      return body();
    } catch (const Error& error) {
      throw Error(options.file + ": row " + row.id + ": " + error.what());
    }
  };
  for (const store::Row& row : results.rows) {
    const ElementType type = within_row(row, [&] { return parse_element_type(row.type); });
    const bool chosen = std::find(ids.begin(), ids.end(), row.id) != ids.end() &&
                        std::find(types.begin(), types.end(), type) != types.end() &&
                        (options.variant == "all" || options.variant == variant_of(row));
    if (!chosen) continue;
    auto tensors = store::read_tensors(options.file, row.id);
    if (tensors.empty()) {
      table.skip(row.id, row.variant, type, "its tensors are not stored");
      ++not_stored;
    } else {
      ++stored;
      within_row(row, [&] { verify_row(row, stored_case(row, std::move(tensors)), options.choices, table, context); });
    }
  }
  if (stored == 0 && not_stored > 0) {
    throw Error(options.file + ": no tensors are stored for these rows; a run stores them with store: {tensors: all}");
  }
  fmt::print(
      "bounds of new against stored are twice the contract's, since both carry an error; {} rows are without "
      "stored tensors\n",
      not_stored);
  return table.finish(options.file);
}

int verify(const VerifyOptions& options) {
  options.choices.check();
  const int threads = choose_threads(options.threads);
  Context context(threads);
  const std::string schema = store::read_schema(options.file);
  if (schema == store::kCasesSchema) return verify_cases(options, context);
  if (schema == store::kResultsSchema) return verify_results(options, context);
  throw Error(options.file + ": attribute schema is '" + schema + "', must be '" + store::kCasesSchema + "' or '" +
              store::kResultsSchema + "'");
}

}  // namespace

void add_verify(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<VerifyOptions>();
  CLI::App* command = app.add_subcommand("verify", "Recompute what a file expects or has stored, and compare");
  command->add_option("file", options->file, "Case file (nalab.cases/1) or results file with tensors (nalab.results/1)")
      ->required();
  command
      ->add_option("--variant", options->variant,
                   "Variant, or all, each also with static KV tiling if it has one; selects rows of a results file")
      ->capture_default_str();
  command->add_option("--dtype", options->type,
                      "f32, bf16, f16 or all; default: f32 for cases, all for results. The oracle takes the place of "
                      "what a case file expects in bf16 and f16");
  options->choices.add_options(*command);
  command->add_option("--cases", options->cases, "Only cases or rows that match this regular expression");
  add_threads(*command, options->threads);
  command->callback([options, &exit_code] { exit_code = verify(*options); });
}

}  // namespace nalab::cli
