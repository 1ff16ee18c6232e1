// nalab itself and nalab list.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <sstream>

#include "core/kernels/registry.h"
#include "tests/cli/run_nalab.h"

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
            "nalab: unknown subcommand 'foo', must be one of variants, isas, arithmetics, tilings, configs\n");
  EXPECT_EQ(sentence({"--foo"}), "nalab: unknown option '--foo'\n");
  EXPECT_EQ(sentence({}), "nalab: A subcommand is required\n");
}

TEST(Main, AFullStandardOutputIsTold) {
  const TemporaryFolder folder;
  const std::string err = folder.file("err");
  for (const char* arguments : {"list variants", "--help"}) {
    const int status =
        std::system(("'" NALAB_EXECUTABLE "' " + std::string(arguments) + " >/dev/full 2>'" + err + "'").c_str());
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
    if (variant.split == nullptr) continue;
    std::string weights;
    std::getline(lines, weights);
    EXPECT_THAT(weights, testing::HasSubstr("has the weights in memory"));
    EXPECT_EQ(weights.find_first_not_of(' '), *column);
  }
}

TEST(List, ABrokenConfigurationIsRefusedAfterTheOthers) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.file("configs"));
  std::filesystem::copy_file(std::string(NALAB_SOURCE_DIR) + "/configs/smoke.yaml", folder.file("configs/smoke.yaml"));
  std::ofstream(folder.file("configs/broken.yaml")) << "nonsense: 1\n";
  const Outcome outcome = run_nalab(folder, {"list", "configs"}, "cd '" + folder.path().string() + "' &&");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.out, testing::StartsWith("smoke  "));
  EXPECT_THAT(outcome.err, testing::MatchesRegex("nalab: [^\n]*broken.yaml:[^\n]*\n"));
}

}  // namespace
}  // namespace nalab
