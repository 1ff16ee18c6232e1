// NaN and infinities reach exactly what they must, in every variant: the section "Non-finite values" of the contract.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/compare.h"
#include "core/kernels/reference/reference.h"
#include "tests/core/definition.h"
#include "tests/core/kernels/problems.h"
#include "tests/core/kernels/support.h"

namespace nalab {
namespace {

using test::Setting;
using Token = std::array<int64_t, 3>;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<Token> tokens_of(const Problem& problem) {
  const auto axes = problem.axes3();
  std::vector<Token> tokens;
  for (int64_t x1 = 0; x1 < axes[0].extent; ++x1) {
    for (int64_t x2 = 0; x2 < axes[1].extent; ++x2) {
      for (int64_t x3 = 0; x3 < axes[2].extent; ++x3) tokens.push_back({x1, x2, x3});
    }
  }
  return tokens;
}

/// Results as doubles, and their rows.
struct Results {
  std::vector<double> out, lse;
};

/// A variant at work on one problem: without a bad value, and again with one.
class Experiment {
 public:
  Experiment(const Variant& variant, const Problem& problem, const Setting& setting)
      : variant_(variant), problem_(problem), setting_(setting), data_(problem, 31), mask_(problem), clean_(run()) {}

  test::Data& data() { return data_; }
  const test::LayoutMask& mask() const { return mask_; }
  /// Keys that a query attends to, extra tokens among them.
  int64_t attended(const reference::Query& query) const {
    int64_t keys = problem_.extra_tokens;
    for (const Token& key : tokens_of(problem_)) keys += mask_.attends(query.token, key) ? 1 : 0;
    return keys;
  }
  int64_t kv_head_of(int64_t head) const { return head * problem_.heads_kv / problem_.heads; }

  /// Puts a bad value into one element of an input, runs, and hands each query to check(query, results, first element
  /// of its row of out) if `reached` says that it attends to the value; all others must be what they are without it.
  void spoil(Tensor& tensor, int64_t element, double bad, const std::function<bool(const reference::Query&)>& reached,
             const std::function<void(const reference::Query&, const Results&, int64_t)>& check) {
    const double old = test::to_double(tensor.view()).at(static_cast<std::size_t>(element));
    test::set(tensor, element, bad);
    const Results results = run();
    for (int64_t b = 0; b < problem_.batch; ++b) {
      for (const Token& token : tokens_of(problem_)) {
        for (int64_t h = 0; h < problem_.heads; ++h) {
          const reference::Query query{b, token, h};
          const int64_t row = test::row_index(out_shape(problem_), b, token, h);
          if (reached(query)) {
            check(query, results, row);
          } else {
            ASSERT_TRUE(same_lse(results, row)) << text(query);
            for (int64_t c = 0; c < problem_.head_dim_v; ++c) ASSERT_TRUE(same_out(results, row + c)) << text(query);
          }
        }
      }
    }
    test::set(tensor, element, old);
  }

  /// Whether it is what it is without the bad value. `row` and `i` are flat indices into out.
  bool same_lse(const Results& results, int64_t row) const { return lse(results, row) == lse(clean_, row); }
  bool same_out(const Results& results, int64_t i) const { return out(results, i) == out(clean_, i); }
  static double out(const Results& results, int64_t i) { return results.out.at(static_cast<std::size_t>(i)); }
  double lse(const Results& results, int64_t row) const {
    return results.lse.at(static_cast<std::size_t>(row / problem_.head_dim_v));
  }

  void expect_all_nan(const Results& results, int64_t row) const {
    ASSERT_TRUE(std::isnan(lse(results, row)));
    for (int64_t c = 0; c < problem_.head_dim_v; ++c) ASSERT_TRUE(std::isnan(out(results, row + c))) << "channel " << c;
  }

  void expect_as_reference(const reference::Query& query, const Results& results, int64_t row) const {
    const auto expected = reference::forward(problem_, data_.inputs(), std::span(&query, 1));
    const Tolerance bound = tolerance(problem_.type, TensorKind::output, expected.max_abs_score);
    const auto errors = compare(std::span(results.out).subspan(static_cast<std::size_t>(row), expected.out.size()),
                                std::span(expected.out), {3 * bound.max_abs, 3 * bound.max_abs}, 1);
    ASSERT_TRUE(errors.ok) << errors.to_string();
    const double got = lse(results, row);
    const double wanted = expected.lse.front();
    if (std::isfinite(wanted)) {
      ASSERT_NEAR(got, wanted, 3 * bound.max_abs * std::max(1.0, std::abs(wanted)));
    } else {
      ASSERT_TRUE(std::isnan(wanted) ? std::isnan(got) : got == wanted) << got << " for " << wanted;
    }
  }

  static std::string text(const reference::Query& q) {
    return "batch " + std::to_string(q.batch) + " token " + std::to_string(q.token[0]) + "," +
           std::to_string(q.token[1]) + "," + std::to_string(q.token[2]) + " head " + std::to_string(q.head);
  }

 private:
  Results run() {
    auto result = test::run_forward(variant_, problem_, data_.inputs(), setting_);
    return {result.out.values(), result.lse.values()};
  }

  const Variant& variant_;
  const Problem& problem_;
  Setting setting_;
  test::Data data_;
  test::LayoutMask mask_;
  Results clean_;
};

/// Windows on and beside every edge, GQA, batch entries, extra tokens; odd head dims; large scores; a single key.
std::vector<Problem> problems() {
  return {
      {.axes = {{.extent = 5, .window = 3, .stride = 2}, {.extent = 6, .window = 2, .dilation = 2, .causal = true}},
       .batch = 2,
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 9,
       .head_dim_v = 5,
       .extra_tokens = 2},
      {.axes = {{.extent = 19, .window = 6, .stride = 4}}, .heads = 2, .heads_kv = 2, .head_dim = 16, .head_dim_v = 17},
      {.axes = {{.extent = 13, .window = 5, .stride = 2, .causal = true}}, .head_dim = 3, .head_dim_v = 8},
      {.axes = {{.extent = 5}}, .batch = 2, .head_dim = 4, .head_dim_v = 4},
      {.axes = {{.extent = 23, .window = 9}}, .head_dim = 8, .head_dim_v = 8, .scale = 60.0},
      {.axes = {{.extent = 5, .window = 4, .stride = 2, .causal = true}, {.extent = 4, .window = 2, .dilation = 2}},
       .heads = 2,
       .head_dim = 3,
       .head_dim_v = 2,
       .relative_bias = true},
  };
}

/// Problems with biases: windows on every edge, entries that no pair has, single keys, all pairs.
std::vector<Problem> biased_problems() {
  std::vector<Problem> biased = {
      problems()[0],
      problems()[1],
      problems()[2],
      problems()[3],
      {.axes = {{.extent = 3, .window = 3}, {.extent = 4, .window = 4}}, .heads = 2, .head_dim = 3, .head_dim_v = 5},
      {.axes = {{.extent = 4, .window = 2},
                {.extent = 5, .window = 3, .stride = 3, .causal = true},
                {.extent = 3, .window = 1, .dilation = 2}},
       .heads = 2,
       .head_dim = 3,
       .head_dim_v = 2},
      {.axes = {{.extent = 4}}, .head_dim = 3, .head_dim_v = 3, .extra_tokens = 1},
  };
  for (Problem& problem : biased) problem.relative_bias = true;
  return biased;
}

/// Calls f(experiment, problem) for every variant, problem, type, way to run and type of out; stops at a failure.
template <class F>
void for_every_experiment(F f, const std::vector<Problem>& on = problems()) {
  for (const Problem& given : on) {
    for (ElementType type : test::kElementTypes) {
      for (const Variant& variant : variants()) {
        Problem problem = test::problem_of(variant, given);
        problem.type = type;
        // Without its bias it is like the others.
        if (problem.relative_bias != given.relative_bias) continue;
        if (variant.supports(problem, Pass::forward)) continue;
        for (const Setting& each : test::settings(variant, problem, Pass::forward)) {
          for (ElementType out_type : {ElementType::f32, type}) {
            const Setting setting = each.with_out(out_type).with_threads(1);
            SCOPED_TRACE(std::string(variant.name) + " " + setting.text() + " " + problem.id());
            Experiment experiment(variant, problem, setting);
            f(experiment, problem);
            if (::testing::Test::HasFailure()) return;
            if (type == ElementType::f32) break;
          }
        }
      }
    }
  }
}

/// Calls f(token, batch entry, kv head) for every token, with batch entries and heads in turn.
template <class F>
void for_every_key(const Problem& problem, F f) {
  int64_t i = 0;
  for (const Token& token : tokens_of(problem)) {
    SCOPED_TRACE("bad token " + std::to_string(i));
    f(token, i % problem.batch, i / problem.batch % problem.heads_kv);
    ++i;
  }
}

TEST(NonFinite, KeyReachesExactlyTheQueriesThatAttendToIt) {
  for_every_experiment([](Experiment& e, const Problem& problem) {
    for_every_key(problem, [&](const Token& key, int64_t b, int64_t kv) {
      const auto reached = [&](const reference::Query& q) {
        return q.batch == b && e.kv_head_of(q.head) == kv && e.mask().attends(q.token, key);
      };
      Tensor& k = e.data()["k"];
      const int64_t element = test::row_index(k.shape(), b, key, kv) + key[2] % problem.head_dim;
      e.spoil(k, element, kNan, reached, [&](const auto&, const Results& r, int64_t row) { e.expect_all_nan(r, row); });
      for (double bad : {kInfinity, -kInfinity}) {
        e.spoil(k, element, bad, reached,
                [&](const auto& q, const Results& r, int64_t row) { e.expect_as_reference(q, r, row); });
      }
    });
  });
}

TEST(NonFinite, ValueReachesItsChannelOfTheQueriesThatAttendToIt) {
  for_every_experiment([](Experiment& e, const Problem& problem) {
    for_every_key(problem, [&](const Token& key, int64_t b, int64_t kv) {
      const auto reached = [&](const reference::Query& q) {
        return q.batch == b && e.kv_head_of(q.head) == kv && e.mask().attends(q.token, key);
      };
      Tensor& v = e.data()["v"];
      const int64_t channel = key[2] % problem.head_dim_v;
      for (double bad : {kNan, kInfinity, -kInfinity}) {
        // With large scores weights underflow to 0, and 0 times infinity is NaN: which do depends on the precision.
        if (!std::isnan(bad) && problem.scale) continue;
        e.spoil(v, test::row_index(v.shape(), b, key, kv) + channel, bad, reached,
                [&](const auto&, const Results& r, int64_t row) {
                  ASSERT_TRUE(e.same_lse(r, row));
                  for (int64_t c = 0; c < problem.head_dim_v; ++c) {
                    const double x = Experiment::out(r, row + c);
                    ASSERT_TRUE(c != channel      ? e.same_out(r, row + c)
                                : std::isnan(bad) ? std::isnan(x)
                                                  : x == bad)
                        << x << " in channel " << c << " for " << bad << " in channel " << channel;
                  }
                });
      }
    });
  });
}

TEST(NonFinite, QueryReachesItselfAlone) {
  for_every_experiment([](Experiment& e, const Problem& problem) {
    int64_t h = 0;
    for_every_key(problem, [&](const Token& token, int64_t b, int64_t) {
      h = (h + 1) % problem.heads;
      Tensor& q = e.data()["q"];
      e.spoil(
          q, test::row_index(q.shape(), b, token, h) + token[2] % problem.head_dim, kNan,
          [&](const reference::Query& query) { return query.batch == b && query.token == token && query.head == h; },
          [&](const auto&, const Results& r, int64_t row) { e.expect_all_nan(r, row); });
    });
  });
}

TEST(NonFinite, BiasReachesExactlyTheQueriesAndHeadsWithAPairOfItsIndex) {
  for_every_experiment(
      [](Experiment& e, const Problem& problem) {
        Tensor& rpb = e.data()["rpb"];
        int64_t masked = 0;
        for (int64_t i = 0; i < rpb.elements(); ++i) {
          const int64_t head = i / problem.bias_entries();
          const Token index = token_at(rpb.shape().layout, i % problem.bias_entries());
          SCOPED_TRACE("bias " + std::to_string(i));
          const auto reached = [&](const reference::Query& q) {
            return q.head == head && e.mask().attends_at(q.token, index);
          };
          e.spoil(rpb, i, kNan, reached, [&](const auto&, const Results& r, int64_t row) { e.expect_all_nan(r, row); });
          // -infinity masks the offset where another score is finite, and leaves nothing where none is.
          e.spoil(rpb, i, -kInfinity, reached, [&](const auto& q, const Results& r, int64_t row) {
            e.expect_as_reference(q, r, row);
            ASSERT_EQ(std::isnan(e.lse(r, row)), e.attended(q) == 1);
            ++masked;
          });
          e.spoil(rpb, i, kInfinity, reached,
                  [&](const auto& q, const Results& r, int64_t row) { e.expect_as_reference(q, r, row); });
          if (::testing::Test::HasFailure()) return;
        }
        ASSERT_GT(masked, 0);
      },
      biased_problems());
}

TEST(NonFinite, ExtraTokenReachesEveryQueryOfItsBatchEntryAndHeads) {
  for_every_experiment([](Experiment& e, const Problem& problem) {
    for (int64_t i = 0; i < problem.extra_tokens; ++i) {
      const int64_t b = i % problem.batch;
      const int64_t kv = (i + 1) % problem.heads_kv;
      const auto reached = [&](const reference::Query& q) { return q.batch == b && e.kv_head_of(q.head) == kv; };
      Tensor& extra_k = e.data()["extra_k"];
      e.spoil(extra_k, test::row_index(extra_k.shape(), b, {0, 0, i}, kv), kNan, reached,
              [&](const auto&, const Results& r, int64_t row) { e.expect_all_nan(r, row); });
      Tensor& extra_v = e.data()["extra_v"];
      e.spoil(extra_v, test::row_index(extra_v.shape(), b, {0, 0, i}, kv), kNan, reached,
              [&](const auto&, const Results& r, int64_t row) {
                ASSERT_TRUE(e.same_lse(r, row));
                ASSERT_TRUE(std::isnan(Experiment::out(r, row)));
                for (int64_t c = 1; c < problem.head_dim_v; ++c) ASSERT_TRUE(e.same_out(r, row + c));
              });
    }
  });
}

}  // namespace
}  // namespace nalab
