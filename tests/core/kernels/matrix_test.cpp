// The arithmetics of a matrix unit: that the emulation computes what the unit does, that numbers which the unit cannot
// take find their way to float32, and only those, and how exact three parts are.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/compare.h"
#include "core/kernels/reference/reference.h"
#include "core/kernels/tile/super_tiles.h"
#include "core/simd/arithmetic.h"
#include "core/simd/emulated_products.h"
#include "tests/core/definition.h"
#include "tests/core/kernels/backward.h"
#include "tests/core/kernels/bounds.h"
#include "tests/core/kernels/problems.h"
#include "tests/core/kernels/support.h"

namespace nalab {
namespace {

using test::Setting;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

class Matrix : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cpu_supports(Isa::avx2)) GTEST_SKIP() << "the emulation needs AVX2";
  }
};

struct Kind {
  std::string_view emulated, native;
  ElementType type;
};
constexpr Kind kKinds[] = {{kBf16AmxEmulated, kBf16Amx, ElementType::bf16},
                           {kF32Amx3Emulated, kF32Amx3, ElementType::f32}};

Setting setting_of(std::string_view arithmetic) {
  Setting setting;
  setting.isa = best_isa();
  setting.arithmetic = arithmetic;
  setting.out_type = ElementType::f32;
  return setting;
}

/// Several tiles, blocks and groups of keys, with masks, extra tokens and ragged rows.
Problem problem_of_type(ElementType type) {
  return {.axes = {{.extent = 9, .window = 5, .causal = true},
                   {.extent = 14, .window = 6, .stride = 2},
                   {.extent = 11, .window = 3, .dilation = 2}},
          .heads = 4,
          .heads_kv = 2,
          .head_dim = 40,
          .head_dim_v = 24,
          .extra_tokens = 3,
          .type = type};
}

/// Queries that see many keys.
Problem all_of_many_keys(ElementType type) {
  return {.axes = {{.extent = 2, .window = 2}, {.extent = 100, .window = 100}}, .head_dim = 32, .type = type};
}

TEST_F(Matrix, TheEmulationComputesWhatTheUnitDoes) {
  if (!cpu_supports(Isa::amx)) GTEST_SKIP() << "this CPU has no matrix unit";
  for (const char* name : {"fused", "gemm", "banded"}) {
    const Variant& variant = find_variant(name);
    for (const Kind& kind : kKinds) {
      if (!variant.takes(find_arithmetic(kind.native), Pass::forward)) continue;
      for (const auto& [_, awkward] : test::awkward_problems()) {
        Problem problem = awkward;
        problem.type = kind.type;
        if (variant.supports(problem, Pass::forward)) continue;
        SCOPED_TRACE(std::string(name) + " " + problem.id());
        const test::Data data(problem, 5);
        auto native = test::run_forward(variant, problem, data.inputs(), setting_of(kind.native));
        auto emulated = test::run_forward(variant, problem, data.inputs(), setting_of(kind.emulated));
        EXPECT_EQ(native.out.values(), emulated.out.values());
        EXPECT_EQ(native.lse.values(), emulated.lse.values());
        if (!variant.takes(find_arithmetic(kind.native), Pass::backward)) continue;

        const auto forward = reference::forward(problem, data.inputs());
        auto native_gradients = test::run_backward(variant, problem, data, forward, setting_of(kind.native));
        auto emulated_gradients = test::run_backward(variant, problem, data, forward, setting_of(kind.emulated));
        for (std::size_t i = 0; i < native_gradients.size(); ++i) {
          EXPECT_EQ(native_gradients[i].values(), emulated_gradients[i].values()) << "gradient " << i;
        }
      }
    }
  }
}

/// Runs a problem whose inputs were changed, and compares it with the oracle. Returns the tasks that went to float32.
int64_t careful_tasks_of(const Problem& problem, const Kind& kind, const std::function<void(test::Data&)>& change,
                         std::string_view variant = "fused", std::string_view tiling = {}) {
  test::Data data(problem, 17);
  change(data);
  const auto reference = reference::forward(problem, data.inputs());
  std::vector<int64_t> careful;
  for (const std::string_view arithmetic : {kind.emulated, kind.native}) {
    if (!available(find_arithmetic(arithmetic), best_isa())) continue;
    const int64_t before = tile::careful_tasks;
    Setting setting = setting_of(arithmetic);
    setting.tiling = tiling;
    auto result = test::run_forward(find_variant(variant), problem, data.inputs(), setting);
    careful.push_back(tile::careful_tasks - before);
    const Tolerance bound = tolerance(problem.type, TensorKind::output, reference.max_abs_score);
    const auto out = result.out.values(), lse = result.lse.values();
    const Comparison out_errors = compare(std::span(out), std::span(reference.out), bound, 1);
    const Comparison lse_errors = compare(std::span(lse), std::span(reference.lse), bound, 1);
    EXPECT_TRUE(out_errors.ok) << arithmetic << ": " << out_errors.to_string();
    EXPECT_TRUE(lse_errors.ok) << arithmetic << ": " << lse_errors.to_string();
  }
  EXPECT_EQ(careful.front(), careful.back());
  return careful.front();
}

/// Calls f(name of a variant, kind) for those that leave out what does not fit and compute it again.
template <class F>
void for_each_online(const F& f) {
  for (const char* variant : {"fused", "banded"}) {
    for (const Kind& kind : kKinds) {
      if (!find_variant(variant).takes(find_arithmetic(kind.emulated), Pass::forward)) continue;
      SCOPED_TRACE(variant);
      f(variant, kind);
    }
  }
}

TEST_F(Matrix, OrdinaryNumbersStayOnTheUnit) {
  for_each_online([](std::string_view variant, const Kind& kind) {
    const Problem problem = problem_of_type(kind.type);
    EXPECT_EQ(careful_tasks_of(
                  problem, kind, [](test::Data&) {}, variant),
              0);
    const auto with_zeros = [](test::Data& data) {
      for (const char* name : {"q", "k", "v"}) {
        for (int64_t i = 0; i < 24; ++i) test::set(data[name], i, i % 2 == 0 ? 0.0 : -0.0);
      }
    };
    EXPECT_EQ(careful_tasks_of(problem, kind, with_zeros, variant), 0);
    for (const double magnitude : {kind.type == ElementType::bf16 ? 0x1p-50 : 0x1p-44, 0x1p57}) {
      EXPECT_EQ(careful_tasks_of(
                    problem, kind, [&](test::Data& data) { test::set(data["v"], 100, magnitude); }, variant),
                0)
          << magnitude;
    }
  });
}

TEST_F(Matrix, NumbersThatItWouldFlushOrSpreadDoNot) {
  for_each_online([](std::string_view variant, const Kind& kind) {
    const Problem problem = problem_of_type(kind.type);
    for (const char* name : {"q", "k", "v"}) {
      for (const double bad : {0x1p-130, 0x1p-140, -0x1p-61, 0x1p58, -0x1p100}) {
        if (kind.type == ElementType::bf16 && bad == 0x1p-140)
          continue;  // zero in bf16; a float whose upper half is zero
        SCOPED_TRACE(std::string(name) + " " + std::to_string(bad));
        EXPECT_GT(careful_tasks_of(
                      problem, kind, [&](test::Data& data) { test::set(data[name], 501, bad); }, variant),
                  0);
      }
    }
    const auto extra = [](test::Data& data) { test::set(data["extra_k"], 7, 0x1p-70); };
    EXPECT_GT(careful_tasks_of(problem, kind, extra, variant), 0);
  });
}

TEST_F(Matrix, AValueThatDoesNotFitMayConcernEveryLane) {
  for_each_online([](std::string_view variant, const Kind& kind) {
    const Problem problem{.axes = {{.extent = 64, .window = 64}}, .head_dim = 8, .head_dim_v = 8, .type = kind.type};
    EXPECT_GT(careful_tasks_of(
                  problem, kind, [](test::Data& data) { test::set(data["v"], 3, 0x1p-130); }, variant),
              0);
  });
}

/// Runs the backward pass of changed inputs, and compares it with the oracle. Returns the tasks with pairs that went to
/// float32.
int64_t careful_backward_tasks_of(const Problem& problem, const Kind& kind,
                                  const std::function<void(test::Data&)>& change, std::string_view tiling = {},
                                  std::string_view variant = "fused") {
  test::Data data(problem, 19);
  change(data);
  const auto reference = reference::forward(problem, data.inputs());
  const auto expected = test::expected_gradients(problem, data);
  const Tolerance bound = tolerance(problem.type, TensorKind::gradient, reference.max_abs_score);
  std::vector<int64_t> careful;
  for (const std::string_view arithmetic : {kind.emulated, kind.native}) {
    if (!available(find_arithmetic(arithmetic), best_isa())) continue;
    const int64_t before = tile::careful_tasks;
    Setting setting = setting_of(arithmetic);
    setting.tiling = tiling;
    auto results = test::run_backward(find_variant(variant), problem, data, reference, setting);
    careful.push_back(tile::careful_tasks - before);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto values = results[i].values();
      const Comparison errors = compare(std::span(values), std::span(expected[i]), bound, test::max_abs(expected[2]));
      EXPECT_TRUE(errors.ok) << arithmetic << " gradient " << i << ": " << errors.to_string();
    }
  }
  EXPECT_EQ(careful.front(), careful.back());
  return careful.front();
}

TEST_F(Matrix, BackwardLeavesOnlyPairsOfNumbersThatDoNotFitToFloat32) {
  for (const Kind& kind : kKinds) {
    const Problem problem = problem_of_type(kind.type);
    EXPECT_EQ(careful_backward_tasks_of(problem, kind, [](test::Data&) {}), 0);
    for (const char* name : {"q", "k", "v", "dout", "extra_k", "extra_v"}) {
      EXPECT_EQ(careful_backward_tasks_of(problem, kind, [&](test::Data& data) { test::set(data[name], 9, 0.0); }), 0);
      for (const double bad : {0x1p-130, -0x1p-61}) {
        SCOPED_TRACE(std::string(name) + " " + std::to_string(bad));
        EXPECT_GT(careful_backward_tasks_of(problem, kind, [&](test::Data& data) { test::set(data[name], 9, bad); }),
                  0);
      }
    }
    const auto great_query = [](test::Data& data) { test::set(data["q"], 501, 0x1p60); };
    EXPECT_GT(careful_backward_tasks_of(problem, kind, great_query), 0);
  }
}

TEST_F(Matrix, BackwardTakesBlocksThatAreNotWholeGroups) {
  for (const Kind& kind : kKinds) {
    Problem problem = problem_of_type(kind.type);
    problem.relative_bias = true;
    for (const char* tiling : {"q2x4x4_s2x1x1_kv1x1x1_l32_h2_b40", "q1x4x8_s1x1x1_kv1x1x1_l32_h1_b8"}) {
      EXPECT_EQ(careful_backward_tasks_of(
                    problem, kind, [](test::Data&) {}, tiling),
                0);
      for (const char* name : {"q", "k"}) {
        const auto change = [&](test::Data& data) { test::set(data[name], 9, 0x1p-130); };
        EXPECT_GT(careful_backward_tasks_of(problem, kind, change, tiling), 0) << name;
      }
    }
  }
}

TEST_F(Matrix, BackwardOfSmallNumbersIsNotFlushed) {
  // Gradients of scores are about 2^-108 here, times keys of 2^50.
  const Problem problem{.axes = {{.extent = 256, .window = 256}}, .head_dim = 32, .head_dim_v = 1};
  for (const Kind& kind : kKinds) {
    Problem typed = problem;
    typed.type = kind.type;
    const double least = kind.type == ElementType::bf16 ? 0x1p-50 : 0x1p-44;
    const auto change = [&](test::Data& data) {
      for (int64_t i = 0; i < 256; ++i) {
        test::set(data["v"], i, (1 + static_cast<double>(i % 3)) * least);
        test::set(data["dout"], i, (1 + static_cast<double>(i % 2)) * least);
      }
      for (int64_t i = 0; i < 256 * 32; ++i) {
        test::set(data["q"], i, (1 + static_cast<double>(i % 5) / 8) * 0x1p-40);
        test::set(data["k"], i, (i % 3 == 0 ? -1 : 1) * (1 + static_cast<double>(i * i % 7) / 8) * 0x1p40);
      }
    };
    test::Data data(typed, 19);
    change(data);
    const auto reference = reference::forward(typed, data.inputs());
    const auto expected = test::expected_gradients(typed, data);
    auto results = test::run_backward(find_variant("fused"), typed, data, reference, setting_of(kind.emulated));
    const auto dq = results[0].values();
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < dq.size(); ++i) {
      error += std::pow((dq[i] - expected[0][i]) / least, 2);
      norm += std::pow(expected[0][i] / least, 2);
    }
    EXPECT_GT(norm, 0);
    // Of 256 terms of either sign, each with the error of a weight and of a gradient that is rounded to its parts.
    const double of_a_term =
        kind.type == ElementType::bf16 ? test::kCubicError + test::kBf16Unit : 16 * test::kFloatUnit;
    EXPECT_LE(std::sqrt(error / norm), of_a_term);
  }
}

TEST_F(Matrix, BackwardKeepsTheBitsOfPairsBesideABadNumber) {
  for (const Kind& kind : kKinds) {
    const Problem problem = problem_of_type(kind.type);
    test::Data data(problem, 3);
    // Saved for all runs, so that only the pairs of the bad key change.
    const auto forward = reference::forward(problem, data.inputs());
    const auto run = [&] {
      auto results = test::run_backward(find_variant("fused"), problem, data, forward, setting_of(kind.emulated));
      std::vector<std::vector<double>> values;
      for (auto& result : results) values.push_back(result.values());
      return values;
    };
    const auto list = test::gradients_of(problem);
    const auto clean = run();
    // Row 5 of the keys: token 2, kv head 1, of query heads 2 and 3.
    const test::LayoutMask mask(problem);
    for (const double bad : {kNan, kInfinity, 0x1p-130}) {
      test::set(data["k"], 40 * 5 + 3, bad);
      const auto results = run();
      for (std::size_t i = 0; i < list.size(); ++i) {
        const bool of_queries = list[i].name == "dq", of_keys = list[i].name == "dk" || list[i].name == "dv";
        const int64_t dim = list[i].name == "dv" || list[i].name == "dextra_v" ? 24 : 40;
        int64_t changed = 0;
        for (std::size_t n = 0; n < results[i].size(); ++n) {
          if (std::bit_cast<uint64_t>(results[i][n]) == std::bit_cast<uint64_t>(clean[i][n])) continue;
          ++changed;
          const int64_t row = static_cast<int64_t>(n) / dim;
          if (of_queries) {
            EXPECT_GE(row % 4, 2) << "another kv head";
            EXPECT_TRUE(mask.attends(token_at(out_shape(problem).layout, row / 4), {0, 0, 2})) << "another query";
          } else {
            EXPECT_TRUE(of_keys) << list[i].name;
            EXPECT_EQ(row, 5) << "another key";
          }
        }
        EXPECT_EQ(changed > 0, of_queries || of_keys) << list[i].name << " " << bad;
      }
    }
  }
}

TEST_F(Matrix, GemmComputesTasksWithNumbersThatDoNotFitInFloat32) {
  const auto nothing = [](test::Data&) {};
  for (const Kind& kind : kKinds) {
    Problem problem = problem_of_type(kind.type);
    for (const char* tiling : {"", "q2x4x4_s2x1x1_kv1x1x1_l32_h2_b40"}) {
      SCOPED_TRACE(tiling);
      EXPECT_EQ(careful_tasks_of(problem, kind, nothing, "gemm", tiling), 0);
      EXPECT_EQ(careful_backward_tasks_of(problem, kind, nothing, tiling, "gemm"), 0);
      for (const char* name : {"q", "k", "v", "extra_k", "extra_v"}) {
        SCOPED_TRACE(name);
        const double bad = name[0] == 'q' ? 0x1p-130 : name[0] == 'k' ? -0x1p58 : kNan;
        const auto change = [&](test::Data& data) { test::set(data[name], 9, bad); };
        EXPECT_GT(careful_tasks_of(problem, kind, change, "gemm", tiling), 0);
      }
      for (const char* name : {"q", "k", "v", "dout", "extra_k", "extra_v"}) {
        if (tiling[0] == '\0') break;
        SCOPED_TRACE(name);
        const auto change = [&](test::Data& data) { test::set(data[name], 9, 0x1p-130); };
        EXPECT_GT(careful_backward_tasks_of(problem, kind, change, tiling, "gemm"), 0);
      }
    }
    // Scores and weights in float32 take any scale; gradients of scores do not fit into bf16 then.
    for (const double scale : {1e-20, 0.0, -0.3, 1e9}) {
      problem.scale = scale;
      EXPECT_EQ(careful_tasks_of(problem, kind, nothing, "gemm"), 0) << scale;
      careful_backward_tasks_of(problem, kind, nothing, {}, "gemm");
    }
  }
}

TEST_F(Matrix, GemmKeepsNanWeightsWhateverTheirPayload) {
  // bf16 rounding of a NaN whose bits are all set would give zero.
  for (const Kind& kind : kKinds) {
    const Problem problem = all_of_many_keys(kind.type);
    test::Data data(problem, 3);
    test::set(data["q"], 5 * 32, std::bit_cast<double>(uint64_t{0x7FFFFFFFFFFFFFFF}));
    const auto forward = reference::forward(problem, data.inputs());
    auto results = test::run_backward(find_variant("gemm"), problem, data, forward, setting_of(kind.emulated));
    for (const double dv : results[2].values()) EXPECT_TRUE(std::isnan(dv));
  }
}

TEST_F(Matrix, SumsOutOfRangeAreTakenAgain) {
  for_each_online([](std::string_view variant, const Kind& kind) {
    const Problem problem = all_of_many_keys(kind.type);
    const auto scores_by_key = [](const std::function<double(int64_t)>& score) {
      return [score](test::Data& data) {
        for (int64_t n = 0; n < 200; ++n) {
          for (int64_t c = 0; c < 32; ++c) {
            test::set(data["q"], n * 32 + c, c == 0 ? std::sqrt(32.0) : 0.0);
            test::set(data["k"], n * 32 + c, c == 0 ? score(n) : 0.0);
          }
        }
      };
    };
    const auto careful = [&](const std::function<void(test::Data&)>& change) {
      return careful_tasks_of(problem, kind, change, variant);
    };
    EXPECT_GT(careful(scores_by_key([](int64_t n) { return static_cast<double>(n); })), 0) << "rising along the keys";
    EXPECT_GT(careful(scores_by_key([](int64_t n) { return n % 2 == 0 ? 1e4 : -1e4; })), 0) << "far apart";
    EXPECT_EQ(careful(scores_by_key([](int64_t) { return 7.0; })), 0) << "all equal";
    EXPECT_GT(careful(scores_by_key([](int64_t n) { return n == 150 ? 1e15 : 0.0; })), 0) << "one far above";
    EXPECT_GT(careful(scores_by_key([](int64_t n) { return n == 150 ? 1e30 : 0.0; })), 0)
        << "one of 1e30, which is no number for the unit either";
  });
}

TEST_F(Matrix, SumsThatABiasMakesSmallAreTakenAgain) {
  for_each_online([](std::string_view variant, const Kind& kind) {
    Problem problem = problem_of_type(kind.type);
    problem.relative_bias = true;
    problem.extra_tokens = 0;
    const auto with_bias = [&](double bias) {
      const auto change = [&](test::Data& data) {
        for (int64_t i = 0; i < data["rpb"].shape().elements(); ++i) test::set(data["rpb"], i, bias);
      };
      return careful_tasks_of(problem, kind, change, variant);
    };
    EXPECT_EQ(with_bias(-5), 0);
    EXPECT_GT(with_bias(-50), 0);
    EXPECT_GT(with_bias(50), 0);
  });
}

TEST_F(Matrix, QueriesBesideABadNumberKeepTheirBits) {
  for_each_online([](std::string_view variant, const Kind& kind) {
    const Problem problem = problem_of_type(kind.type);
    test::Data data(problem, 3);
    const auto run = [&] {
      auto result = test::run_forward(find_variant(variant), problem, data.inputs(), setting_of(kind.emulated));
      return std::pair(result.out.values(), result.lse.values());
    };
    const auto [clean_out, clean_lse] = run();
    // Row 5 of the values: token 2, kv head 1, of query heads 2 and 3.
    const test::LayoutMask mask(problem);
    int64_t attending = 0;
    for (int64_t token = 0; token < problem.tokens(); ++token) {
      attending += mask.attends(token_at(out_shape(problem).layout, token), {0, 0, 2}) ? 2 : 0;
    }
    for (const double bad : {kNan, kInfinity, 0x1p-130}) {
      test::set(data["v"], 24 * 5 + 3, bad);
      const auto [out, lse] = run();
      EXPECT_EQ(lse, clean_lse) << "values have no part in it";
      int64_t changed = 0;
      for (std::size_t i = 0; i < out.size(); ++i) {
        if (std::bit_cast<uint64_t>(out[i]) == std::bit_cast<uint64_t>(clean_out[i])) continue;
        ++changed;
        EXPECT_EQ(i % 24, 3u) << "another channel";
        EXPECT_GE(i / 24 % 4, 2u) << "another kv head";
      }
      if (std::isnan(bad)) {
        EXPECT_EQ(changed, attending);
      }
      EXPECT_LE(changed, attending);
      EXPECT_GT(changed, 0);
    }
  });
}

TEST_F(Matrix, BandedTakesRowsInBlocksAndGivesTheSameBitsToAnyNumberOfThreads) {
  // Of 256 channels and 5 rows of keys along the first axis, few rows are packed at a time.
  Problem problem{.axes = {{.extent = 6, .window = 5}, {.extent = 38, .window = 3}, {.extent = 21, .window = 3}},
                  .heads = 2,
                  .head_dim = 256,
                  .head_dim_v = 230,
                  .type = ElementType::bf16};
  const Kind& kind = kKinds[0];
  EXPECT_EQ(careful_tasks_of(
                problem, kind, [](test::Data&) {}, "banded"),
            0);
  const test::Data data(problem, 3);
  const auto run = [&](int threads) {
    const Setting setting = setting_of(kind.emulated).with_threads(threads).with_out(ElementType::bf16);
    auto result = test::run_forward(find_variant("banded"), problem, data.inputs(), setting);
    return std::pair(result.out.bits(), result.lse.bits());
  };
  const auto one = run(1);
  for (const int threads : {2, 7}) EXPECT_EQ(run(threads), one) << threads;
}

/// Norm of an arithmetic's error, over the norm of the oracle's results: of out and of lse.
std::array<double, 2> errors_of(const Problem& problem, const test::Data& data, const reference::Forward& reference,
                                std::string_view arithmetic) {
  auto result = test::run_forward(find_variant("fused"), problem, data.inputs(), setting_of(arithmetic));
  const auto error = [](const std::vector<double>& values, const std::vector<double>& expected) {
    double sum = 0, size = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      sum += (values[i] - expected[i]) * (values[i] - expected[i]);
      size += expected[i] * expected[i];
    }
    return std::sqrt(sum / size);
  };
  return {error(result.out.values(), reference.out), error(result.lse.values(), reference.lse)};
}

void expect_as_exact_as_float32(const Problem& problem, uint64_t seed) {
  const test::Data data(problem, seed);
  const auto reference = reference::forward(problem, data.inputs());
  const auto parts = errors_of(problem, data, reference, kF32Amx3Emulated);
  const auto floats = errors_of(problem, data, reference, kF32Fma);
  // Where both err by little more than rounding a weight, its sum and the result, their errors say nothing of each
  // other.
  const double least = 3 * test::kFloatUnit;
  EXPECT_LE(parts[0], std::max(1.5 * floats[0], least)) << "out of " << problem.id();
  EXPECT_LE(parts[1], std::max(1.5 * floats[1], least)) << "lse of " << problem.id();
}

TEST_F(Matrix, ThreePartsAreAsExactAsFloat32) {
  std::mt19937_64 random(29);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (uint64_t trial = 0; trial < 60; ++trial) {
    Problem problem;
    problem.type = ElementType::f32;
    for (int64_t axis = pick(1, 3); axis > 0; --axis) {
      const int64_t extent = pick(1, 12);
      problem.axes.push_back({.extent = extent, .window = pick(1, extent), .causal = pick(0, 3) == 0});
    }
    problem.head_dim = pick(1, 80);
    problem.head_dim_v = pick(1, 80);
    problem.extra_tokens = pick(0, 2);
    problem.scale = std::exp2(static_cast<double>(pick(-4, 1)));
    expect_as_exact_as_float32(problem, trial);
  }
}

TEST_F(Matrix, ThreePartsAreAsExactAsFloat32OverManyKeys) {
  for (const double scale : {0.25, 0.01}) {
    expect_as_exact_as_float32({.axes = {{.extent = 3000, .window = 3000}},
                                .head_dim = 16,
                                .head_dim_v = 16,
                                .scale = scale,
                                .type = ElementType::f32},
                               1);
  }
}

TEST_F(Matrix, AKeyAndItsValueMayBothNotFit) {
  const Problem problem{
      .axes = {{.extent = 40, .window = 7}}, .head_dim = 32, .head_dim_v = 32, .type = ElementType::bf16};
  test::Data data(problem, 61);
  test::set(data["k"], 9 * 32 + 3, 0x1p58);
  test::set(data["v"], 9 * 32 + 5, 0x1p-130);
  const auto expected = reference::forward(problem, data.inputs()).out;
  const auto out =
      test::run_forward(find_variant("banded"), problem, data.inputs(), setting_of(kBf16AmxEmulated)).out.values();
  const auto errors = compare(std::span(out), std::span(expected), tolerance(problem.type, TensorKind::output), 1);
  EXPECT_TRUE(errors.ok) << errors.to_string();
}

/// What a forward call of fused multiplies on the emulated unit, and what its plan says.
void expect_executed_flops(const Problem& problem, std::string_view tiling = {}) {
  const Plan plan = make_plan(problem, Pass::forward,
                              {.variant = "fused", .arithmetic = kBf16AmxEmulated, .tiling = tiling, .isa = Isa::avx2});
  test::Data data(problem, 71);
  Setting setting = setting_of(kBf16AmxEmulated);
  setting.isa = Isa::avx2;
  setting.tiling = tiling;
  const int64_t before = simd::emulated_products;
  test::run_forward(find_variant("fused"), problem, data.inputs(), setting);
  constexpr int64_t kFlopsOfTiles = 2 * 16 * 16 * 32;
  EXPECT_EQ((simd::emulated_products - before) * kFlopsOfTiles, plan.executed_flops()) << plan.to_string();
}

TEST_F(Matrix, PlansOfTilesKnowTheirFlopsExactly) {
  Problem problem = problem_of_type(ElementType::bf16);
  problem.head_dim = 32;
  problem.head_dim_v = 64;
  problem.batch = 2;
  expect_executed_flops(problem);
  expect_executed_flops(problem, "q4x2x4_s2x1x3_kv1x1x1_l32_h2_b64");
  expect_executed_flops(problem, "q2x4x4_s1x2x1_kv2x4x4_l32_h1_b72");
  problem = {.axes = {{.extent = 17, .window = 9, .stride = 4}, {.extent = 37, .window = 20, .stride = 8}},
             .head_dim = 32,
             .type = ElementType::bf16};
  expect_executed_flops(problem);
  expect_executed_flops(problem, "q2x16x1_s3x1x2_kv1x1x1_l32_h1_b504");
}

TEST_F(Matrix, BandedMeetsAllKeysThatAStripOfQueriesHas) {
  const Problem problem{
      .axes = {{.extent = 64, .window = 7}}, .head_dim = 32, .head_dim_v = 32, .type = ElementType::bf16};
  const Plan plan =
      make_plan(problem, Pass::forward, {.variant = "banded", .arithmetic = kBf16AmxEmulated, .isa = Isa::avx2});
  EXPECT_EQ(plan.executed_flops(), problem.useful_flops(Pass::forward) / 7 * 24)
      << "16 queries have 22 keys, padded to 24";
}

}  // namespace
}  // namespace nalab
