// nalab selftest: random problems against the oracle; a failure is one line that makes it again.
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/options.h"
#include "experiments/selftest/selftest.h"

namespace nalab::cli {

namespace {

struct SelftestOptions {
  int64_t count = 0;   ///< 0: not given
  double minutes = 0;  ///< 0: not given
  int64_t seed = 1;
  int64_t first = 0;
  std::vector<int> threads;
  std::string problem;
};

constexpr int64_t kDefaultCount = 300;
/// Between two lines of progress.
constexpr double kProgressSeconds = 30;

std::string command_of(const std::string& trial) { return "nalab selftest --problem '" + trial + "'"; }

/// The trial at hand, for the case that it ends the process.
char last_words[4096];

void say_last_words(int signal) {
  static_cast<void>(!write(STDOUT_FILENO, last_words, std::strlen(last_words)));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void expect_the_worst() {
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) std::signal(signal, say_last_words);
}

void prepare_last_words(const selftest::Trial& trial) {
  const std::string text = "the process ends in: " + command_of(to_text(trial)) + "\n";
  std::strncpy(last_words, text.c_str(), sizeof last_words - 1);
}

int check_one(const std::string& text) {
  const selftest::Trial trial = selftest::parse_trial(text);
  prepare_last_words(trial);
  const std::string fault = selftest::fault_of(trial);
  fmt::print("{}\n", fault.empty() ? "agrees" : fault);
  return fault.empty() ? 0 : 1;
}

std::string summary(const selftest::Tally& tally, const SelftestOptions& options) {
  int64_t all = 0;
  std::string by_variant;
  for (const auto& [variant, trials] : tally.trials) {
    all += trials;
    by_variant += fmt::format("{}{} {}", by_variant.empty() ? "" : ", ", variant, trials);
  }
  return fmt::format("{} problems of seed {} from number {}, {} calls ({}), {:.1f} s", tally.problems, options.seed,
                     options.first, all, by_variant, tally.seconds);
}

int check_many(const SelftestOptions& options) {
  selftest::Request request;
  request.first = options.first;
  request.seed = static_cast<uint64_t>(options.seed);
  request.threads = options.threads;
  if (options.minutes > 0) request.seconds = 60 * options.minutes;
  if (options.count > 0) request.count = options.count;
  if (!request.count && !request.seconds) request.count = kDefaultCount;
  double said = 0;
  const auto progress = [&](const selftest::Tally& tally) {
    if (tally.seconds - said < kProgressSeconds) return;
    said = tally.seconds;
    fmt::print("{}\n", summary(tally, options));
    std::fflush(stdout);
  };
  const selftest::Tally tally = selftest::run(request, progress, prepare_last_words);
  if (tally.failure) {
    const selftest::Failure& failure = *tally.failure;
    fmt::print("problem {} of seed {} fails, as drawn: {}\n{}\n{}\n", failure.number, options.seed,
               command_of(failure.drawn), failure.fault, command_of(to_text(failure.trial)));
    return 1;
  }
  fmt::print("{}: all agree; the greatest error is {:.2f} of its bound: {}\n", summary(tally, options), tally.worst,
             tally.worst_trial);
  return 0;
}

}  // namespace

void add_selftest(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<SelftestOptions>();
  CLI::App* command = app.add_subcommand(
      "selftest", "Draw random problems, compute each in every variant in some way, and compare with the oracle");
  add_number(*command, "--count", options->count, fmt::format("Problems; default: {} without --minutes", kDefaultCount))
      ->check(positive());
  add_number(*command, "--minutes", options->minutes, "Begin no problem after this time")->check(positive());
  add_number(*command, "--seed", options->seed, "Seed of the problems")->check(not_negative())->capture_default_str();
  add_number(*command, "--first", options->first,
             "Number of the first problem: each is drawn from the seed and its number")
      ->check(not_negative())
      ->capture_default_str();
  add_threads(*command, options->threads,
              "Make every call with each of these numbers of threads, a,b: all must give the same bits");
  command->add_option("--problem", options->problem, "Check this call alone, as a failure names it");
  command->callback([options, &exit_code] {
    expect_the_worst();
    exit_code = options->problem.empty() ? check_many(*options) : check_one(options->problem);
  });
}

}  // namespace nalab::cli
