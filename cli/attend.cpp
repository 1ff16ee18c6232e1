// nalab attend: checks everything, then computes and writes.
#include <fmt/format.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/compute_case.h"
#include "cli/options.h"
#include "core/error.h"
#include "core/parallel.h"
#include "store/cases.h"

namespace nalab::cli {

namespace {

struct AttendOptions {
  std::string input, output;
  std::string variant;  ///< empty: the best one of each case
  std::string type = "f32";
  std::string cases;  ///< regular expression
  Choices choices;
  bool backward = false;
  int threads = 0;  ///< 0: NALAB_THREADS, else the hardware's
};

struct Task {
  std::string name;
  std::vector<Plan> plans;
};

/// Throws Error if a case cannot be computed.
std::vector<Plan> plan(const store::CaseHeader& header, const AttendOptions& options, ElementType type) {
  if (options.backward && !header.backward) throw Error("tensor dout is missing; --backward needs it");
  Problem problem = header.problem;
  problem.type = type;
  const Pass pass = options.backward ? Pass::backward : Pass::forward;
  PlanOptions asked = options.choices.plan_options(options.variant, pass);
  asked.tiling = options.choices.named_tiling(pass);
  const Variant& variant = choose_variant(problem, pass, asked);
  if (const auto reason = why_not(variant, problem, pass)) throw Error(*reason);
  return plan_case(problem, pass, variant.name, options.choices);
}

/// Checks every requested case and decides how to compute it. Throws Error if one of them cannot be computed.
std::vector<Task> plan_all(const AttendOptions& options, ElementType type) {
  std::vector<Task> tasks;
  for (const std::string& name : matching(store::case_names(options.input), options.cases, options.input)) {
    const store::CaseHeader header = store::read_case_header(options.input, name);
    try {
      tasks.push_back({name, plan(header, options, type)});
    } catch (const Error& error) {
      throw Error(options.input + ": group " + name + ": " + error.what());
    }
  }
  return tasks;
}

void attend(const AttendOptions& options) {
  require_another_file(options.output, {options.input});
  const ElementType type = parse_element_type(options.type);
  options.choices.check();
  if (!options.variant.empty()) find_variant(options.variant);
  const int threads = choose_threads(options.threads);
  Context context(threads);
  const std::vector<Task> tasks = plan_all(options, type);

  store::OutputsFile file(options.output);
  std::map<std::string_view, int> cases_by_variant;
  for (const Task& task : tasks) {
    const TypedCase c(store::read_case(options.input, task.name, type), type, task.plans.back().pass());
    file.write(compute(task.plans, task.name, c, context));
    ++cases_by_variant[task.plans.front().variant_name()];
  }
  file.commit();
  fmt::print("{}: {} {}, {}, {}, {} threads:", options.output, tasks.size(), tasks.size() == 1 ? "case" : "cases",
             name(type), name(tasks.front().plans.front().isa()), threads);
  for (const auto& [variant, count] : cases_by_variant) fmt::print(" {} with {}", count, variant);
  fmt::print("\n");
}

}  // namespace

void add_attend(CLI::App& app, int&) {
  auto options = std::make_shared<AttendOptions>();
  CLI::App* command = app.add_subcommand("attend", "Compute attention for each case of a file");
  command->add_option("input", options->input, "Case file (schema nalab.cases/1)")->required();
  command->add_option("output", options->output, "File to write (schema nalab.outputs/1)")->required();
  command->add_option("--variant", options->variant,
                      "Variant; default: for each case the first by preference that computes it");
  command->add_option("--dtype", options->type, "Element type: f32, bf16 or f16")->capture_default_str();
  options->choices.add_options(*command);
  command->add_flag("--backward", options->backward,
                    "Compute the gradients too, with the same variant; every case must have dout");
  command->add_option("--cases", options->cases, "Only cases with a match of this regular expression in their name");
  add_threads(*command, options->threads);
  command->callback([options] { attend(*options); });
}

}  // namespace nalab::cli
