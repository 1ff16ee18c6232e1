// nalab itself and nalab list.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <sstream>

#include "core/kernels/registry.h"
#include "tests/cli/executable.h"
#include "tests/cli/run_nalab.h"
#include "tests/source_folder.h"

namespace nalab {
namespace {

TEST(Main, UnknownSubcommandsAreNamed) {
  const TemporaryFolder folder;
  const auto sentence = [&](const std::vector<std::string>& arguments) {
    const Outcome outcome = run_nalab(folder, arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  };
  EXPECT_EQ(sentence({"foo"}),
            "nalab: unknown subcommand 'foo', must be one of run, merge, attend, verify, report, compare, selftest, "
            "sim, infer, info, list\n");
  EXPECT_EQ(sentence({"list", "foo"}),
            "nalab: unknown subcommand 'foo', must be one of variants, isas, arithmetics, tilings, configs, models\n");
  EXPECT_EQ(sentence({"--foo"}), "nalab: unknown option '--foo'\n");
  EXPECT_EQ(sentence({}),
            "nalab: a subcommand is missing, must be one of run, merge, attend, verify, report, compare, selftest, "
            "sim, infer, info, list\n");
  EXPECT_EQ(sentence({"list"}),
            "nalab: a subcommand is missing, must be one of variants, isas, arithmetics, tilings, configs, models\n");
}

TEST(Main, TellsItsVersion) {
  const Outcome outcome = run_nalab(TemporaryFolder(), {"--version"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, testing::MatchesRegex("nalab [0-9]+\\.[0-9]+\\.[0-9]+, revision [0-9a-z-]+\n"));
}

TEST(Main, NumbersAreDecimal) {
  const TemporaryFolder folder;
  const auto info = [&](const std::string& threads) {
    const Outcome outcome = run_nalab(folder, {"info", "--json", "--isa", "baseline", "--threads", threads});
    return outcome.exit_code == 0 ? outcome.out : outcome.err;
  };
  EXPECT_THAT(info("01"), testing::HasSubstr("\"threads\": 1,"));
  for (const std::string text : {"0x1", "0b1", "1e0", "+1", " 1", "1 ", "1.0", "1_000", "two", ""}) {
    EXPECT_EQ(info(text), "nalab: --threads '" + text + "' must be a whole number in decimal digits\n");
  }
  for (const std::string text : {"0", "00", "-1", "1025", "002000"}) {
    EXPECT_EQ(info(text), "nalab: --threads " + std::to_string(std::stoi(text)) + " must be from 1 to 1024\n");
  }
  for (const std::string text : {"2147483648", "99999999999999999999", "-99999999999999999999"}) {
    EXPECT_EQ(info(text), "nalab: --threads '" + text + "' is out of range\n");
  }
  // The same for each command and each number.
  const std::vector<std::pair<std::vector<std::string>, std::string>> numbers{
      {{"run", "none.yaml"}, "--threads"},
      {{"attend", "none.h5", "out.h5"}, "--threads"},
      {{"verify", "none.h5"}, "--threads"},
      {{"selftest"}, "--threads"},
      {{"selftest"}, "--count"},
      {{"selftest"}, "--minutes"},
      {{"selftest"}, "--seed"},
      {{"selftest"}, "--first"},
      {{"sim", "--layout", "8", "--window", "3"}, "--extra-kv"},
      {{"sim", "--layout", "8", "--window", "3"}, "--batch"},
      {{"sim", "--layout", "8", "--window", "3"}, "--heads"},
      {{"sim", "--layout", "8", "--window", "3"}, "--head-dim"},
      {{"sim", "--layout", "8", "--window", "3"}, "--steps"},
      {{"sim", "--layout", "8", "--window", "3"}, "--dense-steps"},
      {{"sim", "--layout", "8", "--window", "3"}, "--rows"},
      {{"sim", "--layout", "8", "--window", "3"}, "--attention-share"},
      {{"sim", "--layout", "8", "--window", "3"}, "--bandwidth"},
      {{"sim", "--layout", "8"}, "--recommend"},
      {{"compare", "none.h5", "none.h5"}, "--fail-above"},
  };
  for (auto [arguments, name] : numbers) {
    arguments.insert(arguments.end(), {name, "0x1"});
    const Outcome outcome = run_nalab(folder, arguments);
    EXPECT_EQ(outcome.exit_code, 2) << name;
    EXPECT_THAT(outcome.err, testing::StartsWith("nalab: " + name + " '0x1' must be a ")) << name;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  }
}

TEST(Main, NumbersOutOfRangeAreRefused) {
  const TemporaryFolder folder;
  const std::vector<std::pair<std::string, std::vector<std::string>>> numbers{
      {"--count", {"0", "-1"}}, {"--minutes", {"0", "-0.5", "nan", "inf"}}, {"--seed", {"-1"}}, {"--first", {"-1"}}};
  for (const auto& [name, texts] : numbers) {
    const std::string rule = name == "--count" || name == "--minutes" ? "above 0" : "of at least 0";
    for (const std::string& text : texts) {
      const Outcome outcome = run_nalab(folder, {"selftest", name, text});
      EXPECT_EQ(outcome.exit_code, 2);
      EXPECT_EQ(outcome.err, "nalab: " + name + ": must be a number " + rule + ", got '" + text + "'\n");
    }
  }
}

TEST(Main, ControlCharactersDoNotReachTheTerminal) {
  const Outcome outcome = run_nalab(TemporaryFolder(), {"report", "\x1b[31m\x01no\x7f \u009b such\tfile.h5"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, testing::StartsWith("nalab: \\x1b[31m\\x01no\\x7f \\x9b such file.h5: cannot be read"));
}

TEST(Main, AnErrorIsOneLineWhateverItNames) {
  const Outcome outcome = run_nalab(TemporaryFolder(), {"report", "no\nsuch\rfile.h5"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, testing::StartsWith("nalab: no such file.h5: "));
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
}

TEST(Main, AFullStandardOutputIsTold) {
  const TemporaryFolder folder;
  const std::string err = folder.file("err");
  for (const char* arguments : {"list variants", "--help"}) {
    const int status =
        std::system(("'" + nalab_executable() + "' " + std::string(arguments) + " >/dev/full 2>'" + err + "'").c_str());
    EXPECT_EQ(WEXITSTATUS(status), 2);
    EXPECT_EQ(bytes_of(err), "nalab: standard output cannot be written\n");
  }
}

TEST(List, EveryTextBeginsInOneColumnBesideItsName) {
  const Outcome outcome = run_nalab(TemporaryFolder(), {"list", "variants"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  std::istringstream lines(outcome.out);
  std::optional<std::size_t> column;
  for (const Variant& variant : variants()) {
    std::string summary, term;
    std::getline(lines, summary);
    std::getline(lines, term);
    EXPECT_THAT(summary, testing::StartsWith(std::string(variant.name) + "  "));
    EXPECT_THAT(summary, testing::EndsWith("  " + std::string(variant.summary)));
    EXPECT_THAT(term, testing::MatchesRegex(" +[^ ].*"));
    if (!column) column = term.find_first_not_of(' ');
    EXPECT_EQ(summary.size() - variant.summary.size(), *column);
    EXPECT_EQ(term.find_first_not_of(' '), *column);
    const auto expect_line = [&](const std::string& text) {
      std::string line;
      std::getline(lines, line);
      EXPECT_THAT(line, testing::MatchesRegex(" +" + text + ".*"));
      EXPECT_EQ(line.find_first_not_of(' '), *column);
    };
    if (variant.split != nullptr) expect_line("has the weights in memory");
    // Which of them it is depends on the build and the machine of the executable.
    if (variant.device != Device::cpu)
      expect_line("(not here: needs (a build with CUDA|an sm_90 GPU; none is here)|computes on the GPU that is here)");
  }
}

TEST(List, ABrokenConfigurationIsRefusedAfterTheOthers) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.file("configs"));
  std::filesystem::copy_file(source_folder() + "/configs/smoke.yaml", folder.file("configs/smoke.yaml"));
  std::ofstream(folder.file("configs/broken.yaml")) << "nonsense: 1\n";
  const Outcome outcome = run_nalab(folder, {"list", "configs"}, "cd '" + folder.path().string() + "' &&");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.out, testing::StartsWith("smoke  "));
  EXPECT_THAT(outcome.out, testing::EndsWith("All of them are in " + folder.file("configs") + "\n"));
  EXPECT_THAT(outcome.err, testing::MatchesRegex("nalab: [^\n]*broken.yaml:[^\n]*\n"));
}

}  // namespace
}  // namespace nalab
