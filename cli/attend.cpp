// nalab attend: checks everything, then computes and writes.
#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/compute_case.h"
#include "core/error.h"
#include "core/parallel.h"
#include "store/cases.h"

namespace nalab::cli {

namespace {

struct AttendOptions {
  std::string input, output;
  std::string variant;  ///< empty: choose_variant()
  std::string type = "f32";
  std::string isa;    ///< empty: NALAB_ISA, else the best
  std::string cases;  ///< regular expression
  bool backward = false;
  int threads = 0;  ///< 0: NALAB_THREADS, else the hardware's
};

/// The fastest variant of the registry that computes the pass, by order of preference; the reference computes all.
const Variant& choose_variant(const Problem& problem, Pass pass) {
  for (const char* preferred : {"fused", "naive"}) {
    for (const Variant& variant : variants()) {
      if (variant.name == preferred && !why_not(variant, problem, pass)) return variant;
    }
  }
  return find_variant("reference");
}

struct Task {
  std::string name;
  const Variant* variant;
};

/// Reads every requested case and decides how to compute it. Throws Error if one of them cannot be computed.
std::vector<Task> plan(const AttendOptions& options, ElementType type) {
  const Pass pass = options.backward ? Pass::backward : Pass::forward;
  std::vector<Task> tasks;
  for (const std::string& name : matching(store::case_names(options.input), options.cases, options.input)) {
    const store::Case c = store::read_case(options.input, name);
    const std::string where = options.input + ": group " + name + ": ";
    if (options.backward && !c.dout) throw Error(where + "tensor dout is missing; --backward needs it");
    Problem problem = c.problem;
    problem.type = type;
    const Variant& variant = options.variant.empty() ? choose_variant(problem, pass) : find_variant(options.variant);
    if (const auto reason = why_not(variant, problem, pass)) throw Error(where + *reason);
    tasks.push_back({name, &variant});
  }
  return tasks;
}

void attend(const AttendOptions& options) {
  std::error_code not_there;
  if (std::filesystem::equivalent(options.input, options.output, not_there)) {
    throw Error(options.output + ": is the input file; the output must be another file");
  }
  const ElementType type = parse_element_type(options.type);
  const Isa isa = options.isa.empty() ? choose_isa() : parse_isa(options.isa);
  Workers workers(choose_threads(options.threads));
  const std::vector<Task> tasks = plan(options, type);

  store::OutputsFile file(options.output);
  std::map<std::string_view, int> cases_by_variant;
  for (const Task& task : tasks) {
    const TypedCase c(store::read_case(options.input, task.name), type);
    file.write(compute(*task.variant, task.name, c, options.backward, workers, isa));
    ++cases_by_variant[task.variant->name];
  }
  file.commit();
  fmt::print("{}: {} {}, {}, {}, {} threads:", options.output, tasks.size(), tasks.size() == 1 ? "case" : "cases",
             name(type), name(isa), workers.threads());
  for (const auto& [variant, count] : cases_by_variant) fmt::print(" {} with {}", count, variant);
  fmt::print("\n");
}

}  // namespace

void add_attend(CLI::App& app, int&) {
  auto options = std::make_shared<AttendOptions>();
  CLI::App* command = app.add_subcommand("attend", "Compute attention for each case of a file");
  command->add_option("input", options->input, "Case file (schema nalab.cases/1)")->required();
  command->add_option("output", options->output, "File to write (schema nalab.outputs/1)")->required();
  command->add_option("--variant", options->variant, "Variant; default: for each case the fastest that computes it");
  command->add_option("--dtype", options->type, "Element type: f32, bf16 or f16")->capture_default_str();
  command->add_option("--isa", options->isa, "Instruction set; default: NALAB_ISA, else the best of this CPU");
  command->add_flag("--backward", options->backward,
                    "Compute the gradients too, with the same variant; every case must have dout");
  command->add_option("--cases", options->cases, "Only cases with a match of this regular expression in their name");
  command->add_option("--threads", options->threads, "Threads; default: NALAB_THREADS, else the hardware's")
      ->check(CLI::Range(1, 1024));
  command->callback([options] { attend(*options); });
}

}  // namespace nalab::cli
