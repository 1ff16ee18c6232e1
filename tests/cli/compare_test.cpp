// nalab compare.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/results.h"
#include "tests/cli/run_nalab.h"

namespace nalab {
namespace {

using testing::HasSubstr;
using testing::Not;

store::Row row(const std::string& id, std::vector<double> samples, const std::string& status = "done",
               const std::string& reason = "") {
  store::Row r;
  r.id = id;
  r.config = "small";
  r.label = "a, b";
  r.variant = "fused";
  r.type = "f32";
  r.pass = "forward";
  r.status = status;
  r.reason = reason;
  r.samples = std::move(samples);
  return r;
}

/// Seven samples.
std::vector<double> seven(double middle) {
  std::vector<double> samples;
  for (int i = -3; i <= 3; ++i) samples.push_back(middle * (1 + i / 128.0));
  return samples;
}

class CompareCommand : public testing::Test {
 protected:
  CompareCommand() {
    write(a_, {row("x", seven(1e-3)), row("y", seven(2e-3)), row("z", {1e-3}), row("old", {1e-3})});
    write(b_, {row("x", seven(1.5e-3)), row("y", seven(1e-3)), row("z", {2e-3}), row("new", {}, "refused", "too odd")});
  }

  void write(const std::string& path, const std::vector<store::Row>& rows, const std::string& isa = "avx2") {
    store::Results results;
    results.environment.isa = isa;
    results.rows = rows;
    store::write_results(path, results, {});
  }

  Outcome compare(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "compare");
    return run_nalab(folder_, arguments);
  }

  TemporaryFolder folder_;
  std::string a_ = folder_.file("a.h5"), b_ = folder_.file("b.h5");
};

TEST_F(CompareCommand, PrintsATable) {
  const Outcome outcome = compare({a_, b_});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "A: " + a_ + "\nB: " + b_ + "\n" +
                "B / A  95 % interval         A        B  samples  verdict          row\n"
                "1.500  1.451 to 1.551  1.00 ms  1.50 ms     7, 7  slower           x\n"
                "0.500  0.484 to 0.517  2.00 ms  1.00 ms     7, 7  faster           y\n"
                "2.000  -               1.00 ms  2.00 ms     1, 1  too few samples  z\n"
                "    -  -               1.00 ms        -     1, 0  only in A        old\n"
                "    -  -                     -        -     0, 0  only in B        new\n"
                "3 rows compared: geometric mean of B / A 1.145; 1 faster; 1 slower; 1 too few samples; 1 only in A; "
                "1 only in B\n"
                "An interval needs 6 samples from each run: see timing: min_samples in the configuration\n"
                "3 rows could not be judged: too few samples, no times, or in only one of the files\n");
}

TEST_F(CompareCommand, FailsAboveAPercentage) {
  EXPECT_EQ(compare({a_, b_, "--fail-above", "45"}).exit_code, 1);
  EXPECT_THAT(compare({a_, b_, "--fail-above", "45"}).out,
              HasSubstr("\n1 row is slower by more than 45 % or with a wrong result\n3 rows could not be judged: "));
  EXPECT_EQ(compare({a_, b_, "--fail-above", "45.2"}).exit_code, 0) << "the interval begins below";
  EXPECT_EQ(compare({b_, a_, "--fail-above", "90"}).exit_code, 1);
  write(folder_.file("wrong.h5"), {row("x", {}, "failed", "off by one")});
  const Outcome wrong = compare({a_, folder_.file("wrong.h5"), "--fail-above", "1000"});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.out, HasSubstr("now failed  x\n    failed in B: off by one\n"));
  EXPECT_EQ(compare({a_, folder_.file("wrong.h5")}).exit_code, 0);
}

TEST_F(CompareCommand, WarnsOfAnotherMachine) {
  EXPECT_THAT(compare({a_, b_}).out, Not(HasSubstr("warning")));
  write(folder_.file("other.h5"), {row("x", seven(1))}, "avx512");
  EXPECT_THAT(compare({a_, folder_.file("other.h5")}).out,
              HasSubstr("\nwarning: isa is 'avx2' in A and 'avx512' in B\n"));
}

TEST_F(CompareCommand, WritesCsv) {
  const std::string csv = folder_.file("out.csv");
  EXPECT_EQ(compare({a_, b_, "--csv", csv}).exit_code, 0);
  const std::string text = bytes_of(csv);
  EXPECT_THAT(text,
              testing::StartsWith("row,config,label,variant,type,pass,samples_a,samples_b,seconds_a,seconds_b,ratio,"
                                  "ratio_low,ratio_high,verdict,reason\n"
                                  "x,small,\"a, b\",fused,f32,forward,7,7,0.001,0.0015,1.5,1.45"));
  EXPECT_THAT(text, HasSubstr("\nold,small,\"a, b\",fused,f32,forward,1,,0.001,,,,,only in A,\n"));
}

TEST_F(CompareCommand, AFilterChoosesRows) {
  const Outcome outcome = compare({a_, b_, "--filter", "^(x|new)$"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("1 row compared: geometric mean of B / A 1.500; 1 slower; 1 only in B\n"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("  y\n")));
  EXPECT_THAT(compare({a_, b_, "--filter", "a, b"}).out, HasSubstr("3 rows compared")) << "a label";
}

TEST_F(CompareCommand, RefusesInOneLine) {
  const auto sentence = [&](const std::vector<std::string>& arguments) {
    const Outcome outcome = compare(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  };
  const std::string missing = folder_.file("missing.h5"), other = folder_.file("other.h5");
  write(other, {row("w", {1})});
  EXPECT_EQ(sentence({a_}), "nalab: B.h5 is required\n");
  EXPECT_EQ(sentence({a_, b_, "--filter", "row"}),
            "nalab: --filter 'row' matches no row of " + a_ + " or " + b_ + "\n");
  EXPECT_EQ(sentence({a_, b_, "--filter", "old"}), "nalab: " + a_ + " and " + b_ + " have no row in common\n");
  EXPECT_EQ(sentence({a_, b_, "--filter", "("}), "nalab: --filter '(' is not a regular expression: missing ): (\n");
  EXPECT_EQ(sentence({a_, b_, "--csv", ""}), "nalab: --csv: must not be empty\n");
  EXPECT_EQ(sentence({a_, b_, "--csv", b_}), "nalab: " + b_ + ": is the input file; the output must be another file\n");
  EXPECT_EQ(sentence({a_, missing}), "nalab: " + missing + ": cannot be read: No such file or directory\n");
  EXPECT_EQ(sentence({a_, kSmallCases}),
            "nalab: " + kSmallCases + ": attribute schema is 'nalab.cases/1', must be 'nalab.results/1'\n");
  EXPECT_EQ(sentence({a_, other}), "nalab: " + a_ + " and " + other + " have no row in common\n");
  for (const std::string percent : {"-1", "nan", "inf"}) {
    EXPECT_EQ(sentence({a_, b_, "--fail-above", percent}),
              "nalab: --fail-above: must be a percentage of at least 0, got " + percent + "\n");
  }
  EXPECT_THAT(sentence({a_, b_, "--csv", folder_.file("no folder/out.csv")}),
              testing::StartsWith("nalab: " + folder_.file("no folder/out.csv") + ": cannot be written"));
}

}  // namespace
}  // namespace nalab
