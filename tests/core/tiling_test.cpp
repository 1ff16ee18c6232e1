#include "core/tiling.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/core/support.h"

namespace nalab {
namespace {

const Tiling kTiling{
    .query = {1, 4, 8}, .super = {2, 3, 1}, .kv = {1, 4, 8}, .lanes = 32, .heads = 2, .block_keys = 248, .flat = false};

TEST(Tiling, TextReadsBack) {
  Tiling flat = kTiling;
  flat.flat = true;
  EXPECT_EQ(Tiling().to_string(), "q1x1x1_s1x1x1_kv1x1x1_l32_h1_b256");
  EXPECT_EQ(kTiling.to_string(), "q1x4x8_s2x3x1_kv1x4x8_l32_h2_b248");
  EXPECT_EQ(flat.to_string(), "flat_q1x4x8_s2x3x1_kv1x4x8_l32_h2_b248");
  for (const Tiling& tiling : {Tiling(), kTiling, flat}) EXPECT_EQ(parse_tiling(tiling.to_string()), tiling);
}

TEST(Tiling, RefusesOtherText) {
  for (const std::string text : {"",
                                 "best",
                                 "flat",
                                 "flat_",
                                 "q1x4x8",
                                 "q1x4x8_s2x2x1_kv1x1x1_l32_h1",
                                 "q1x4x8_s2x2x1_kv1x1x1_l32_h1_b",
                                 "q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256 ",
                                 " q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256",
                                 "q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256_",
                                 "q1x4_s2x2x1_kv1x1x1_l32_h1_b256",
                                 "q1x4x8x1_s2x2x1_kv1x1x1_l32_h1_b256",
                                 "q0x4x8_s2x2x1_kv1x1x1_l32_h1_b256",
                                 "q-1x4x8_s2x2x1_kv1x1x1_l32_h1_b256",
                                 "q+1x4x8_s2x2x1_kv1x1x1_l32_h1_b256",
                                 "qx4x8_s2x2x1_kv1x1x1_l32_h1_b256",
                                 "Q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256",
                                 "s2x2x1_q1x4x8_kv1x1x1_l32_h1_b256",
                                 "q1x4x8_s2x2x1_l32_h1_b256",
                                 "flat_flat_q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256",
                                 "q1x4x8_s2x2x1_kv1x1x1_l32.0_h1_b256",
                                 "q1x4x8_s2x2x1_kv1x1x1_l32_h1_b99999999999999999999"}) {
    EXPECT_EQ(test::error_of([&] { parse_tiling(text); }),
              "tiling '" + text + "' must be written as q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256");
  }
}

TEST(Tiling, CountsTilesAndQueries) {
  EXPECT_EQ(kTiling.spatial_tiles(), 6);
  EXPECT_EQ(kTiling.query_tiles(), 12);
  EXPECT_EQ(kTiling.super_queries(0), 2);
  EXPECT_EQ(kTiling.super_queries(1), 12);
  EXPECT_EQ(kTiling.super_queries(2), 8);
  EXPECT_TRUE(kTiling.has_static_kv());
  EXPECT_FALSE(Tiling().has_static_kv());
}

}  // namespace
}  // namespace nalab
