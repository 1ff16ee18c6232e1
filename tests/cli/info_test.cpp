// nalab info.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/simd/isa.h"
#include "tests/cli/run_nalab.h"

namespace nalab {
namespace {

using testing::HasSubstr;

TEST(Info, JsonHasEveryFieldInBaseUnits) {
  const TemporaryFolder folder;
  const Outcome outcome = run_nalab(folder, {"info", "--json", "--threads", "2"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json.at("threads"), 2);
  EXPECT_EQ(json.at("isa"), name(best_isa()));
  EXPECT_THAT(json.at("isas").get<std::string>(), HasSubstr("baseline"));
  EXPECT_GT(json.at("cores"), 0);
  EXPECT_GT(json.at("memory_bytes"), int64_t{64} << 20);
  // Those of the arithmetics that are available here, in order of preference.
  ASSERT_EQ(json.at("peaks").size(), (cpu_supports(Isa::amx) ? 4u : cpu_supports(Isa::avx512bf16) ? 2u : 1u));
  EXPECT_EQ(json.at("peaks").back().at("name"), "f32_fma");
  for (const auto& peak : json.at("peaks")) {
    EXPECT_GT(peak.at("one_thread"), 1e9);
    EXPECT_GT(peak.at("all_threads"), 1e9);
  }
  EXPECT_GT(json.at("copy_bandwidth"), 1e8);
  for (const char* field : {"cpu", "os", "compiler", "flags", "libraries", "revision"}) {
    EXPECT_NE(json.at(field).get<std::string>(), "") << field;
  }
  // A version that CMake did not find would leave a name without a number.
  for (const char* library : {"Highway 1", "HDF5 1", "yaml-cpp 0", "CLI11 2", "fmt "}) {
    EXPECT_THAT(json.at("libraries").get<std::string>(), HasSubstr(library));
  }
  EXPECT_THAT(json.at("started").get<std::string>(), testing::MatchesRegex("....-..-..T..:..:..Z"));
}

TEST(Info, TheEnvironmentForcesInstructionSetAndThreads) {
  const TemporaryFolder folder;
  const Outcome outcome = run_nalab(folder, {"info", "--json"}, "NALAB_ISA=baseline NALAB_THREADS=1");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json.at("isa"), "baseline");
  EXPECT_EQ(json.at("threads"), 1);
  ASSERT_EQ(json.at("peaks").size(), 1u) << "what may not be used has no peak";
  EXPECT_EQ(json.at("peaks").at(0).at("name"), "f32_fma");
}

TEST(Info, PrintsALineForEachField) {
  const TemporaryFolder folder;
  const Outcome outcome = run_nalab(folder, {"info", "--isa", "baseline"});
  EXPECT_THAT(outcome.out, testing::ContainsRegex("\nisa +baseline\n"));
  EXPECT_THAT(outcome.out,
              testing::ContainsRegex("\npeak f32_fma +[0-9.]+ GFLOP/s on one thread, [0-9.]+ GFLOP/s on all\n"));
  EXPECT_EQ(outcome.out.find("\npeak bf16_dot "), std::string::npos);
}

TEST(Info, RefusesInOneLine) {
  const TemporaryFolder folder;
  const Outcome isa = run_nalab(folder, {"info", "--isa", "mmx"});
  EXPECT_EQ(isa.exit_code, 2);
  EXPECT_EQ(isa.err, "nalab: instruction set 'mmx' is none of baseline, avx2, avx512, avx512bf16, amx\n");
  const Outcome threads = run_nalab(folder, {"info", "--threads", "0"});
  EXPECT_EQ(threads.exit_code, 2);
  EXPECT_EQ(threads.err, "nalab: --threads 0 must be from 1 to 1024\n");
}

}  // namespace
}  // namespace nalab
