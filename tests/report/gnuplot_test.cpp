// A program that stands for gnuplot.
#include "report/gnuplot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "tests/core/support.h"
#include "tests/store/temporary_folder.h"

namespace nalab::report {
namespace {

/// Puts a shell script in the place of gnuplot.
class Gnuplot : public testing::Test {
 protected:
  void is(const std::string& script) {
    std::ofstream(folder_.file("gnuplot")) << "#!/bin/sh\n" << script << "\n";
    std::filesystem::permissions(folder_.file("gnuplot"), std::filesystem::perms::owner_all);
    path_.set(folder_.path().string() + ":/usr/bin:/bin");
  }

 private:
  TemporaryFolder folder_;
  test::ScopedEnvironment path_{"PATH"};
};

TEST_F(Gnuplot, GivesWhatItPrints) {
  is("exec cat");
  EXPECT_EQ(run_gnuplot("a script", "a plot"), "a script");
}

TEST_F(Gnuplot, ThatHangsIsEnded) {
  is("echo half; exec sleep 100");
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT([] { run_gnuplot("a script", "the plot x", std::chrono::milliseconds(200)); },
              testing::ThrowsMessage<GnuplotError>("gnuplot was ended: it had not made the plot x after 0.2 s"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(50));
}

TEST_F(Gnuplot, ThatIsEndedBySomebodyElseHasFailed) {
  is("echo half; kill -9 $$");
  EXPECT_THAT([] { run_gnuplot("a script", "the plot x"); },
              testing::ThrowsMessage<GnuplotError>("gnuplot cannot make the plot x"));
}

}  // namespace
}  // namespace nalab::report
