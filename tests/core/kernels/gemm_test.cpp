// gemm where its tiles have several blocks of keys and runs longer than a piece: larger problems than those that every
// variant is tested on, by a sample of queries.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "core/compare.h"
#include "core/kernels/reference/reference.h"
#include "tests/core/kernels/backward.h"

namespace nalab {
namespace {

using test::Setting;

std::vector<Problem> problems() {
  return {
      {.axes = {{.extent = 701, .window = 301}}, .heads = 2, .head_dim = 8, .head_dim_v = 12, .extra_tokens = 331},
      {.axes = {{.extent = 1403, .window = 280, .stride = 77, .dilation = 3, .causal = true}},
       .head_dim = 16,
       .head_dim_v = 8},
      {.axes = {{.extent = 23, .window = 14, .stride = 3}, {.extent = 150, .window = 99, .causal = true}},
       .heads = 2,
       .head_dim = 8,
       .head_dim_v = 8,
       .extra_tokens = 5},
      {.axes = {{.extent = 6, .window = 5}, {.extent = 9, .window = 5, .stride = 5}, {.extent = 85, .window = 70}},
       .heads = 2,
       .heads_kv = 2,
       .head_dim = 8,
       .head_dim_v = 24},
  };
}

/// Those, and with biases: runs of them that are longer than a piece.
std::vector<Problem> all_problems() {
  std::vector<Problem> all = problems();
  for (const std::size_t i : {0, 2}) {
    Problem& biased = all.emplace_back(problems()[i]);
    biased.relative_bias = true;
  }
  return all;
}

std::vector<reference::Query> sample(const Problem& problem, int count) {
  std::mt19937_64 random(31);
  const auto pick = [&](int64_t end) { return std::uniform_int_distribution<int64_t>(0, end - 1)(random); };
  const auto axes = problem.axes3();
  std::vector<reference::Query> queries;
  for (int i = 0; i < count; ++i) {
    queries.push_back(
        {pick(problem.batch), {pick(axes[0].extent), pick(axes[1].extent), pick(axes[2].extent)}, pick(problem.heads)});
  }
  // Both corners.
  queries.push_back({0, {0, 0, 0}, 0});
  queries.push_back(
      {problem.batch - 1, {axes[0].extent - 1, axes[1].extent - 1, axes[2].extent - 1}, problem.heads - 1});
  return queries;
}

/// The rows of the sampled queries.
std::vector<double> rows_of(const std::vector<double>& tensor, const TokenShape& shape,
                            const std::vector<reference::Query>& queries) {
  std::vector<double> rows;
  for (const reference::Query& query : queries) {
    const auto first = tensor.begin() + test::row_index(shape, query.batch, query.token, query.head);
    rows.insert(rows.end(), first, first + shape.dim);
  }
  return rows;
}

/// Runs gemm in all ways and compares the sampled queries with the reference.
void run_and_check(const Problem& problem, const test::Data& data) {
  const Variant& gemm = find_variant("gemm");
  const auto queries = sample(problem, 150);
  const auto expected = reference::forward(problem, data.inputs(), queries);
  const Tolerance bound = tolerance(problem.type, TensorKind::output, expected.max_abs_score);
  for (const Setting& setting : test::settings(gemm, problem, Pass::forward)) {
    SCOPED_TRACE(problem.id() + " " + setting.text());
    auto result = test::run_forward(gemm, problem, data.inputs(), setting);
    const auto out = rows_of(result.out.values(), out_shape(problem), queries);
    const Comparison out_errors = compare(std::span(out), std::span(expected.out), bound, 1);
    EXPECT_TRUE(out_errors.ok) << "out: " << out_errors.to_string();
    const auto lse = rows_of(result.lse.values(), lse_shape(problem), queries);
    const Comparison lse_errors = compare(std::span(lse), std::span(expected.lse), bound, 1);
    EXPECT_TRUE(lse_errors.ok) << "lse: " << lse_errors.to_string();
  }
}

TEST(Gemm, LongRunsAndSeveralBlocks) {
  for (Problem problem : all_problems()) {
    for (ElementType type : test::kElementTypes) {
      problem.type = type;
      ASSERT_NO_THROW(problem.validate());
      run_and_check(problem, test::Data(problem, 2));
    }
  }
}

TEST(Gemm, ValuesThatAreNotFiniteReachOnlyWhoAttendsToThem) {
  for (const Problem& problem : problems()) {
    test::Data data(problem, 3);
    std::mt19937_64 random(4);
    std::uniform_int_distribution<int64_t> element(0, data["v"].elements() - 1);
    test::set(data["v"], element(random), NAN);
    test::set(data["v"], element(random), INFINITY);
    run_and_check(problem, data);
  }
}

TEST(Gemm, BackwardOfLongRunsAndSeveralBlocks) {
  const Variant& gemm = find_variant("gemm");
  for (Problem problem : all_problems()) {
    for (ElementType type : {ElementType::f32, ElementType::bf16}) {
      problem.type = type;
      const test::Data data(problem, 5);
      auto forward = test::run_forward(gemm, problem, data.inputs(), {.isa = best_isa(), .arithmetic = kF32Fma});
      const SavedForBackward saved{forward.out.view(), forward.lse.view(), data["dout"].view()};
      const auto queries = sample(problem, 20);
      std::vector<reference::Query> key_rows;
      std::vector<reference::Key> keys;
      for (const reference::Query& q : queries) {
        const int64_t head_kv = q.head * problem.heads_kv / problem.heads;
        key_rows.push_back({q.batch, q.token, head_kv});
        keys.push_back({q.batch, q.token, head_kv});
      }
      const auto dq = reference::backward_queries(problem, data.inputs(), data["dout"].view(), queries).dq;
      const auto of_keys = reference::backward_keys(problem, data.inputs(), saved, keys);
      // Entries of the middle, of both borders and between.
      std::vector<reference::Offset> offsets;
      std::vector<reference::Query> bias_rows;
      if (problem.relative_bias) {
        const int64_t entries = problem.bias_entries();
        for (const int64_t entry : {int64_t{0}, entries / 3, entries / 2, entries / 2 + 1, entries - 1}) {
          offsets.push_back({entry % problem.heads, token_at(rpb_shape(problem).layout, entry)});
          bias_rows.push_back({offsets.back().head, offsets.back().index, 0});
        }
      }
      const auto drpb = reference::backward_bias(problem, data.inputs(), saved, offsets);
      const Tolerance bound = tolerance(type, TensorKind::gradient);
      const auto list = test::gradients_of(problem);
      for (const Setting& setting : test::settings(gemm, problem, Pass::backward)) {
        // The scalar one takes long; it is tested on smaller problems.
        if (setting.isa == Isa::baseline && type != ElementType::f32) continue;
        SCOPED_TRACE(problem.id() + " " + setting.text());
        auto results = test::run_backward(gemm, problem, data, saved, setting);
        const auto check = [&](std::size_t i, const std::vector<reference::Query>& rows,
                               const std::vector<double>& expected) {
          const auto values = rows_of(results[i].values(), list[i].shape, rows);
          const Comparison errors = compare(std::span(values), std::span(expected), bound, 1);
          EXPECT_TRUE(errors.ok) << list[i].name << ": " << errors.to_string();
        };
        check(0, queries, dq);
        if (problem.relative_bias) check(list.size() - 1, bias_rows, drpb);
        check(1, key_rows, of_keys.dk);
        check(2, key_rows, of_keys.dv);
      }
    }
  }
}

TEST(Gemm, StoresTheWeightsAndExecutesWhatItsTilesVisit) {
  for (const Problem& problem : problems()) {
    const Plan forward = make_plan(problem, Pass::forward, {.variant = "gemm"});
    const Plan fused = make_plan(problem, Pass::forward, {.variant = "fused"});
    EXPECT_EQ(forward.tiling(), fused.tiling());
    EXPECT_EQ(forward.executed_flops(), fused.executed_flops());
    const int64_t weights = problem.batch * problem.tokens() * problem.heads * problem.keys_per_query();
    EXPECT_GE(forward.workspace_bytes(1), 4 * weights);
    EXPECT_GE(make_plan(problem, Pass::backward, {.variant = "gemm"}).workspace_bytes(1), 8 * weights);
  }
}

}  // namespace
}  // namespace nalab
