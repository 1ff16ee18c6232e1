// nalab verify: recomputes what a case file expects or a results file has stored, and compares.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/compute_case.h"
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
  std::string isa;    ///< empty: NALAB_ISA, else the best
  std::string cases;  ///< regular expression
  int threads = 0;    ///< 0: NALAB_THREADS, else the hardware's
};

std::vector<const Variant*> chosen_variants(const std::string& option) {
  if (option != "all") return {&find_variant(option)};
  std::vector<const Variant*> all;
  for (const Variant& variant : variants()) all.push_back(&variant);
  return all;
}

std::vector<ElementType> chosen_types(const std::string& option) {
  if (option == "all") return {ElementType::f32, ElementType::bf16, ElementType::f16};
  return {parse_element_type(option)};
}

int verify_cases(const VerifyOptions& options, Isa isa, Workers& workers) {
  const auto chosen = chosen_variants(options.variant);
  const auto types = chosen_types(options.type.empty() ? "f32" : options.type);
  const auto names = matching(store::case_names(options.file), options.cases, options.file);
  VerifyTable table(names);
  for (const std::string& name : names) {
    const store::Case c = store::read_case(options.file, name);
    for (const ElementType type : types) {
      if (c.expected.empty()) {
        table.skip(name, "", type, "the group has no expected tensors");
        continue;
      }
      const TypedCase typed(c, type);
      // The file's expected results hold for its float32 inputs, not for rounded ones.
      const bool as_in_file = type == ElementType::f32;
      std::optional<Oracle> oracle;
      for (const Variant* variant : chosen) {
        if (const auto reason = why_not(*variant, typed.problem(), Pass::forward)) {
          table.skip(name, variant->name, type, *reason);
          continue;
        }
        const auto no_gradients = why_not(*variant, typed.problem(), Pass::backward);
        if (!oracle) oracle = ask_oracle(typed, typed.has_dout() && !as_in_file);
        const auto computed = compute(*variant, name, typed, typed.has_dout() && !no_gradients, workers, isa);
        table.add({name, variant->name, type, as_in_file ? "new, expected" : "new, oracle"}, computed,
                  compare_tensors(computed, as_in_file ? c.expected : oracle->tensors, typed, oracle->max_abs_score),
                  typed.has_dout() && no_gradients ? " (out and lse only: " + *no_gradients + ")" : "");
      }
    }
  }
  return table.finish(options.file);
}

/// Compares the stored results of a row with the oracle, and what its variant recomputes with the stored results.
void verify_row(const store::Row& row, const StoredCase& stored, VerifyTable& table, Isa isa, Workers& workers) {
  const Variant& variant = find_variant(row.variant);
  const ElementType type = stored.inputs.problem.type;
  const TypedCase typed(stored.inputs, type);
  const Oracle oracle = ask_oracle(typed, stored.gradients);
  table.add({row.id, row.variant, type, "stored, oracle"}, stored.outputs,
            compare_tensors(stored.outputs, oracle.tensors, typed, oracle.max_abs_score));

  if (const auto reason = why_not(variant, typed.problem(), stored.gradients ? Pass::backward : Pass::forward)) {
    table.skip(row.id, row.variant, type, *reason);
    return;
  }
  NamedTensors kept;
  for (const auto& [name, dataset] : stored.outputs.datasets)
    kept[name].assign(dataset.data.begin(), dataset.data.end());
  const auto computed = compute(variant, row.id, typed, stored.gradients, workers, isa);
  table.add({row.id, row.variant, type, "new, stored"}, computed,
            compare_tensors(computed, kept, typed, oracle.max_abs_score, kBothSides));
}

int verify_results(const VerifyOptions& options, Isa isa, Workers& workers) {
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
                        (options.variant == "all" || options.variant == row.variant);
    if (!chosen) continue;
    auto tensors = store::read_tensors(options.file, row.id);
    if (tensors.empty()) {
      table.skip(row.id, row.variant, type, "its tensors are not stored");
      ++not_stored;
    } else {
      ++stored;
      within_row(row, [&] { verify_row(row, stored_case(row, std::move(tensors)), table, isa, workers); });
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
  const Isa isa = options.isa.empty() ? choose_isa() : parse_isa(options.isa);
  Workers workers(choose_threads(options.threads));
  const std::string schema = store::read_schema(options.file);
  if (schema == store::kCasesSchema) return verify_cases(options, isa, workers);
  if (schema == store::kResultsSchema) return verify_results(options, isa, workers);
  throw Error(options.file + ": attribute schema is '" + schema + "', must be '" + store::kCasesSchema + "' or '" +
              store::kResultsSchema + "'");
}

}  // namespace

void add_verify(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<VerifyOptions>();
  CLI::App* command = app.add_subcommand("verify", "Recompute what a file expects or has stored, and compare");
  command->add_option("file", options->file, "Case file (nalab.cases/1) or results file with tensors (nalab.results/1)")
      ->required();
  command->add_option("--variant", options->variant, "Variant, or all; selects rows of a results file")
      ->capture_default_str();
  command->add_option("--dtype", options->type,
                      "f32, bf16, f16 or all; default: f32 for cases, all for results. The oracle takes the place of "
                      "what a case file expects in bf16 and f16");
  command->add_option("--isa", options->isa, "Instruction set; default: NALAB_ISA, else the best of this CPU");
  command->add_option("--cases", options->cases, "Only cases or rows that match this regular expression");
  command->add_option("--threads", options->threads, "Threads; default: NALAB_THREADS, else the hardware's")
      ->check(CLI::Range(1, 1024));
  command->callback([options, &exit_code] { exit_code = verify(*options); });
}

}  // namespace nalab::cli
