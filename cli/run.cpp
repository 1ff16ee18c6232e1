// nalab run: load, plan, announce, run, store.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/interruption.h"
#include "cli/options.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/plan.h"
#include "core/simd/arithmetic.h"
#include "core/simd/isa.h"
#include "experiments/config/config.h"
#include "experiments/environment/environment.h"
#include "experiments/environment/limits.h"
#include "experiments/plan/announce.h"
#include "experiments/plan/plan.h"
#include "experiments/plan/shard.h"
#include "experiments/plan/units.h"
#include "experiments/runner/progress.h"
#include "experiments/runner/runner.h"
#include "experiments/runner/this_host.h"
#include "store/doubts.h"
#include "store/new_file.h"
#include "store/results.h"

namespace nalab::cli {

namespace {

namespace fs = std::filesystem;

struct RunOptions {
  std::vector<std::string> configs;
  std::string output;  ///< unset: default_output()
  std::string filter;
  std::optional<std::string> shard;   ///< "2/3"; unset: the whole plan
  std::vector<std::string> variants;  ///< empty: those of the configurations
  bool quick = false, full = false;
  bool dry_run = false;
  bool resume = false;
  int threads = 0;                      ///< 0: NALAB_THREADS, else the hardware's
  std::string isa;                      ///< empty: NALAB_ISA, else the best
  std::string arithmetic;               ///< empty: NALAB_ARITHMETIC, else by preference
  std::string tiling, backward_tiling;  ///< empty: those of the configurations
};

/// Puts a tiling in the place of those of the settings and of all runs, unless it is empty.
void replace_tiling(const std::string& tiling, config::Settings& settings, std::string config::Settings::*of_settings,
                    std::optional<std::string> config::Run::*of_run) {
  if (tiling.empty()) return;
  check_tiling_name(tiling);
  settings.*of_settings = tiling;
  for (config::Run& run : settings.runs) run.*of_run = std::nullopt;
}

/// Puts variants in the place of those of the settings. A run with variants of its own keeps those of them that are
/// wanted. One that has none, or none on its device, is left out.
void replace_variants(const std::vector<std::string>& variants, config::Settings& settings) {
  settings.variants = variants;
  std::erase_if(settings.runs, [&](config::Run& run) {
    const bool has_own = !run.variants.empty();
    std::erase_if(run.variants,
                  [&](const std::string& own) { return std::ranges::find(variants, own) == variants.end(); });
    return std::ranges::none_of(has_own ? run.variants : variants, [&run](const std::string& name) {
      return !run.device || find_variant(name).device == *run.device;
    });
  });
}

std::vector<config::Config> load(const RunOptions& options) {
  for (const std::string& variant : options.variants) find_variant(variant);
  std::vector<config::Config> configs;
  for (const std::string& path : options.configs) {
    configs.push_back(config::load(path, options.quick ? config::Form::quick : config::Form::full));
    config::Settings& settings = configs.back().settings;
    if (!options.variants.empty()) replace_variants(options.variants, settings);
    if (settings.runs.empty()) throw Error(path + ": none of its runs has a variant that --variants names");
    replace_tiling(options.tiling, settings, &config::Settings::tiling, &config::Run::tiling);
    replace_tiling(options.backward_tiling, settings, &config::Settings::backward_tiling,
                   &config::Run::backward_tiling);
  }
  return configs;
}

/// results/<name>.h5 or results/<name>.shard-2-of-3.h5, several names joined by '+'.
std::string default_output(const std::vector<config::Config>& configs, const std::optional<store::Shard>& shard) {
  std::string names;
  for (const config::Config& config : configs) names += (names.empty() ? "" : "+") + config.title.name;
  return fmt::format("results/{}{}.h5", names, shard ? fmt::format(".shard-{}-of-{}", shard->index, shard->count) : "");
}

/// The requested shard of the plan, for the devices that are here; the rest is removed from the plan. Throws Error if
/// nothing is left of a plan that is not divided.
std::optional<store::Shard> choose_shard(const RunOptions& options, plan::RunPlan& plan) {
  const int64_t all = plan.rows() + std::ssize(plan.simulations);
  if (!options.shard) {
    plan::leave_out_absent_devices(plan);
    if (plan.has_rows() || !plan.simulations.empty()) return std::nullopt;
    const auto& [device, rows] = *plan.left_out.begin();
    throw Error(fmt::format("there is nothing to run but {} {} on {}, which {}", rows, rows == 1 ? "row" : "rows",
                            name(device), *why_not_here(device)));
  }
  store::Shard shard = plan::parse_shard(*options.shard);
  plan::take_shard(plan, shard);
  plan::leave_out_absent_devices(plan);
  shard.filter = options.filter;
  shard.rows = plan.rows() + std::ssize(plan.simulations);
  fmt::print("shard {}: {} of {} rows and simulations\n", store::shard_text(shard), shard.rows, all);
  return shard;
}

void announce(const plan::RunPlan& plan, const RunOptions& options, double peak_seconds) {
  fmt::print("{}{}", options.dry_run ? plan::listing(plan) : "", plan::summary(plan, peak_seconds));
  std::fflush(stdout);
}

/// What is known of the machine before the run that makes its times doubtful.
void warn_of_crowding(const store::Environment& machine) {
  const std::string warning =
      environment::crowding(static_cast<int>(machine.threads), machine.hardware_threads, machine.cpu_quota);
  if (!warning.empty()) fmt::print(stderr, "nalab: {}\n", warning);
}

/// The load is that of the last minute: what ran then may have ended.
void announce_load(const store::Environment& machine) {
  constexpr double kBusyShare = 0.25;
  const auto cpus = static_cast<double>(machine.hardware_threads);
  if (machine.load_average <= kBusyShare * cpus) return;
  fmt::print("  load    {:.2f} on {} CPUs over the last minute: other programs may disturb the times\n",
             machine.load_average, machine.hardware_threads);
  std::fflush(stdout);
}

/// A path that ends in a slash or a dot names a directory, even if it does not exist.
void refuse_directory(const std::string& path) {
  const fs::path name = fs::path(path).filename();
  std::error_code error;
  if (name.empty() || name == "." || name == ".." || fs::is_directory(path, error)) {
    throw Error(path + ": is a directory, must be a file for the results");
  }
}

void make_folder_of(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  std::error_code error;
  if (!folder.empty()) fs::create_directories(folder, error);
  if (error) throw Error(path + ": its folder cannot be created: " + error.message());
}

/// Opens the results file, and removes what it already holds from the plan.
std::unique_ptr<store::ResultsSink> open_output(const std::string& path, const RunOptions& options,
                                                const std::vector<config::Config>& configs,
                                                const store::Environment& environment,
                                                const std::optional<store::Shard>& shard, plan::RunPlan& plan) {
  std::vector<store::StoredConfig> stored;
  for (const config::Config& config : configs) stored.push_back(config::stored(config));
  if (!options.resume) return store::create_results(path, environment, stored, shard);
  std::vector<std::string> finished;
  auto sink = store::resume_results(path, environment, stored, finished, shard);
  plan::skip_finished(plan, finished);
  fmt::print("resumed: {} rows finished earlier, {} to go\n", finished.size(),
             plan.rows() + std::ssize(plan.simulations));
  std::fflush(stdout);
  return sink;
}

/// What speaks against the times of a file, a line for each reason.
void print_doubts(const store::Results& results) {
  std::vector<const store::TimedRow*> timed = store::timed_rows(results);
  std::erase_if(timed, [](const store::TimedRow* row) { return row->samples.empty(); });
  for (const store::Doubt& doubt : store::doubts(results.environment, timed)) {
    fmt::print("{}\n", store::sentence(doubt, timed.size(), [](const store::TimedRow& row) { return row.id; }));
  }
}

/// Whether the file has rows with a wrong result, those of earlier runs included.
bool has_failed_rows(const store::Results& results) {
  return std::ranges::any_of(store::timed_rows(results),
                             [](const store::TimedRow* row) { return row->status == "failed"; });
}

/// Says what a run that was asked to end leaves.
int interrupted(const std::string& path, int64_t kept, int64_t all) {
  fmt::print("{}: interrupted; {} of {} rows and simulations are kept, --resume goes on from there\n", path, kept, all);
  return kInterrupted;
}

int run(const RunOptions& options) {
  const Isa isa = options.isa.empty() ? choose_isa() : parse_isa(options.isa);
  const int threads = choose_threads(options.threads);
  // A name that is wrong would be the reason why each row is refused.
  if (options.arithmetic.empty()) {
    forced_arithmetic();
  } else {
    find_arithmetic(options.arithmetic);
  }

  const std::vector<config::Config> configs = load(options);
  const store::Environment machine = environment::describe(isa, threads);
  const environment::Limits limits = environment::read_limits();
  plan::RunPlan plan =
      plan::make_run_plan(configs, options.filter,
                          {limits.memory_bytes, threads, isa, options.arithmetic, environment::clause(limits.limiter)});
  const std::optional<store::Shard> shard = choose_shard(options, plan);
  const std::string path = options.output.empty() ? default_output(configs, shard) : options.output;
  refuse_directory(path);
  // An existing file has its peaks, or will be refused at once. Simulations are not timed: there is nothing to compare
  // with peaks.
  std::error_code error;
  const bool needs_peaks = plan.has_rows() && !fs::exists(path, error);
  announce(plan, options, needs_peaks ? environment::kMeasureSeconds : 0);
  warn_of_crowding(machine);
  if (options.dry_run) return 0;
  announce_load(machine);

  const int64_t planned = plan.rows() + std::ssize(plan.simulations);
  const Interruption interruption;
  Workers workers(threads);
  runner::SteadyClock clock;
  const double start = clock.seconds();
  make_folder_of(path);
  if (needs_peaks) store::NewFile writable(path);  // before the measurement
  const store::Environment environment = needs_peaks ? environment::measure(isa, workers) : machine;
  if (Interruption::requested()) return interrupted(path, 0, planned);
  const auto sink = open_output(path, options, configs, environment, shard, plan);
  const int64_t to_go = plan.rows() + std::ssize(plan.simulations);
  runner::ProgressLines progress(plan, clock, stdout, isatty(STDOUT_FILENO) != 0);
  runner::ThisHost host(isa, workers, clock, Interruption::requested);
  const runner::Totals totals = runner::run(plan, workers, clock, host, *sink, progress);
  sink->finish();

  if (totals.stopped) {
    const int64_t finished = totals.done + totals.failed + totals.refused + totals.simulated;
    return interrupted(path, planned - to_go + finished, planned);
  }
  const std::string simulated = totals.simulated > 0 ? fmt::format("{} simulated, ", totals.simulated) : "";
  fmt::print("{}: {}{} done, {} failed, {} refused in {}\n", path, simulated, totals.done, totals.failed,
             totals.refused, plan::seconds_text(clock.seconds() - start));
  const store::Results results = store::read_results(path);
  print_doubts(results);
  return has_failed_rows(results) ? 1 : 0;
}

}  // namespace

void add_run(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = app.add_subcommand(
      "run", "Run experiments: verify and time every row of the configurations, and ask the simulator.");
  command->add_option("config", options->configs, "Configurations (YAML)")->required();
  command
      ->add_option("-o,--output", options->output,
                   "Results file (default: results/<name of the configuration>.h5, with .shard-I-of-N for a shard)")
      ->check(not_empty());
  add_filter(*command, options->filter);
  command->add_option("--shard", options->shard,
                      "Only the I-th of N shards of the plan, I/N: the same on every machine; nalab merge combines "
                      "their files into one");
  command->add_option("--variants", options->variants, "Variants instead of those in the configurations: a,b")
      ->delimiter(',');
  CLI::Option* quick = command->add_flag("--quick", options->quick, "The quick form of the configurations");
  command->add_flag("--full", options->full, "The full form (the default)")->excludes(quick);
  command->add_flag("--dry-run", options->dry_run, "Show the plan, row by row, and stop");
  command->add_flag("--resume", options->resume, "Continue the results file of an earlier run");
  add_threads(*command, options->threads);
  command->add_option("--isa", options->isa, "Instruction set (default: NALAB_ISA, else the best of this CPU)");
  command->add_option("--arithmetic", options->arithmetic,
                      "Arithmetic to use wherever it computes a row (default: NALAB_ARITHMETIC, else by preference)");
  command->add_option("--tiling", options->tiling,
                      "Tiling of the forward pass instead of the configurations': best, static, or one as rows store "
                      "it; see nalab list tilings");
  command->add_option("--backward-tiling", options->backward_tiling, "The same for the backward pass");
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace nalab::cli
