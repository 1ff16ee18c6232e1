#include "core/splitmix64.h"

#include <gtest/gtest.h>

namespace nalab {
namespace {

// The first numbers of the authors' own program for the seed 1234567.
TEST(SplitMix64, IsThePublishedSequence) {
  uint64_t counter = 1234567;
  for (const uint64_t expected : {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                  4593380528125082431u, 16408922859458223821u}) {
    EXPECT_EQ(splitmix64(counter), expected);
    counter += kSplitMix64Step;
  }
}

}  // namespace
}  // namespace nalab
