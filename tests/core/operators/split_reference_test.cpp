// The reference of the split operators, by what shares no code with it: slots counted out from the text of the
// contract, and finite differences.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/core/kernels/bounds.h"
#include "tests/core/operators/split.h"

namespace nalab {
namespace {

using std::vector;
using test::SplitData;
using test::Views;

double at(const vector<double>& values, int64_t i) { return values.at(static_cast<std::size_t>(i)); }
double& at(vector<double>& values, int64_t i) { return values.at(static_cast<std::size_t>(i)); }

/// All four passes of a problem by loops over the slots of every query: a slot's key is found by counting along each
/// axis from the first one attended.
struct BruteForce {
  vector<double> attn, dq, dk, dextra_k, drpb, out, dattn, dv, dextra_v;

  BruteForce(const Problem& p, SplitData& data) {
    const auto axes = p.axes3();
    const auto values_of = [&](bool there, const char* name) {
      return there ? test::to_double(data[name].view()) : vector<double>{};
    };
    const bool extra = p.extra_tokens > 0;
    const auto q = values_of(true, "q"), k = values_of(true, "k"), v = values_of(true, "v"),
               extra_k = values_of(extra, "extra_k"), extra_v = values_of(extra, "extra_v"),
               rpb = values_of(p.relative_bias, "rpb"), given = values_of(true, "attn"),
               given_gradient = values_of(true, "dattn"), dout = values_of(true, "dout");
    const double scale = p.scale ? *p.scale : 1.0;
    const int64_t window = axes[0].window * axes[1].window * axes[2].window, slots = window + p.extra_tokens;
    const int64_t rows = p.batch * p.tokens() * p.heads;
    attn.assign(static_cast<std::size_t>(rows * slots), -std::numeric_limits<double>::infinity());
    dattn.assign(attn.size(), 0.0);
    out.assign(static_cast<std::size_t>(rows * p.head_dim_v), 0.0);
    dq.assign(q.size(), 0.0);
    dk.assign(k.size(), 0.0);
    dv.assign(v.size(), 0.0);
    dextra_k.assign(extra_k.size(), 0.0);
    dextra_v.assign(extra_v.size(), 0.0);
    drpb.assign(rpb.size(), 0.0);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t h = row % p.heads, token = row / p.heads % p.tokens(), b = row / p.heads / p.tokens();
      const int64_t kv = h / (p.heads / p.heads_kv);
      const std::array<int64_t, 3> query{token / (axes[1].extent * axes[2].extent),
                                         token / axes[2].extent % axes[1].extent, token % axes[2].extent};
      // One slot with its key: rows of k and v, and the entry of its bias, -1 for an extra token.
      const auto visit = [&](int64_t slot, bool of_extra, int64_t key, int64_t entry) {
        const auto &keys = of_extra ? extra_k : k, &values = of_extra ? extra_v : v;
        auto &key_sums = of_extra ? dextra_k : dk, &value_sums = of_extra ? dextra_v : dv;
        const int64_t a = row * slots + slot;
        double product = 0, gradient = 0;
        for (int64_t c = 0; c < p.head_dim; ++c) {
          product += at(q, row * p.head_dim + c) * at(keys, key * p.head_dim + c);
          at(dq, row * p.head_dim + c) += scale * at(given_gradient, a) * at(keys, key * p.head_dim + c);
          at(key_sums, key * p.head_dim + c) += scale * at(given_gradient, a) * at(q, row * p.head_dim + c);
        }
        at(attn, a) = scale * product + (entry >= 0 ? at(rpb, entry) : 0);
        if (entry >= 0) at(drpb, entry) += at(given_gradient, a);
        for (int64_t c = 0; c < p.head_dim_v; ++c) {
          gradient += at(dout, row * p.head_dim_v + c) * at(values, key * p.head_dim_v + c);
          at(out, row * p.head_dim_v + c) += at(given, a) * at(values, key * p.head_dim_v + c);
          at(value_sums, key * p.head_dim_v + c) += at(given, a) * at(dout, row * p.head_dim_v + c);
        }
        at(dattn, a) = gradient;
      };
      std::array<vector<int64_t>, 3> shown;
      for (std::size_t a = 0; a < 3; ++a) shown[a] = test::attended(axes[a], query[a]);
      for (int64_t slot = 0; slot < window; ++slot) {
        const std::array<int64_t, 3> place{slot / (axes[1].window * axes[2].window),
                                           slot / axes[2].window % axes[1].window, slot % axes[2].window};
        bool hidden = false;
        for (std::size_t a = 0; a < 3; ++a) hidden = hidden || place[a] >= static_cast<int64_t>(shown[a].size());
        if (hidden) continue;
        int64_t key = b, entry = h;
        for (std::size_t a = 0; a < 3; ++a) {
          const int64_t coordinate = at_place(shown[a], place[a]);
          key = key * axes[a].extent + coordinate;
          entry = entry * (2 * axes[a].window - 1) + (coordinate - query[a]) / axes[a].dilation + axes[a].window - 1;
        }
        visit(slot, false, key * p.heads_kv + kv, p.relative_bias ? entry : -1);
      }
      for (int64_t e = 0; e < p.extra_tokens; ++e) {
        visit(window + e, true, (b * p.extra_tokens + e) * p.heads_kv + kv, -1);
      }
    }
  }

  static int64_t at_place(const vector<int64_t>& coordinates, int64_t i) {
    return coordinates.at(static_cast<std::size_t>(i));
  }
};

/// Within bounds of each; what is infinite, or not a number, must be the same.
void expect_near(std::string_view name, const vector<double>& values, const vector<double>& expected,
                 const std::function<double(std::size_t)>& bound) {
  ASSERT_EQ(values.size(), expected.size()) << name;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(expected[i])) {
      ASSERT_NEAR(values[i], expected[i], bound(i)) << name << " at " << i;
    } else {
      ASSERT_EQ(values[i], expected[i]) << name << " at " << i;
    }
  }
}

void expect_brute_force(const Problem& problem, ElementType attn_type) {
  SCOPED_TRACE(problem.id());
  SplitData data(problem, attn_type, 21);
  BruteForce expected(problem, data);
  const std::pair<std::string_view, const vector<double>*> all[] = {
      {"attn", &expected.attn}, {"dq", &expected.dq},       {"dk", &expected.dk},
      {"dv", &expected.dv},     {"dattn", &expected.dattn}, {"dextra_k", &expected.dextra_k},
      {"out", &expected.out},   {"drpb", &expected.drpb},   {"dextra_v", &expected.dextra_v}};
  for (const Pass pass : test::kSplitPasses) {
    // Both sides round, in orders of their own.
    const auto sizes = test::term_sizes(problem, pass, data);
    const double unit = 2 * test::kDoubleUnit * test::roundings(problem, 0);
    for (const auto& [name, values] : test::expected_split(problem, pass, data.inputs(pass))) {
      const vector<double>& size = sizes.of.at(name);
      bool known = false;
      for (const auto& [expected_name, expected_values] : all) {
        if (expected_name != name) continue;
        known = true;
        expect_near(name, values, *expected_values, [&](std::size_t i) { return unit * size[i]; });
      }
      EXPECT_TRUE(known) << name;
    }
  }
}

TEST(SplitReference, EqualsSlotsCountedOutOnAwkwardProblems) {
  for (const test::Awkward& awkward : test::awkward_problems()) {
    if (awkward.problem.scale && std::abs(*awkward.problem.scale) > 1e3) continue;  // a bound of another kind
    expect_brute_force(awkward.problem, ElementType::f32);
  }
}

TEST(SplitReference, EqualsSlotsCountedOutAtRandom) {
  test::RandomProblems problems(2209);
  for (int i = 0; i < 200 && !::testing::Test::HasFailure(); ++i) {
    const Problem problem = problems.next();
    expect_brute_force(problem, i % 2 == 0 ? ElementType::f32 : problem.type);
  }
}

vector<Problem> small_problems() {
  return {
      {.axes = {{.extent = 5, .window = 4, .stride = 2, .causal = true}},
       .batch = 2,
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 3,
       .head_dim_v = 2,
       .extra_tokens = 2,
       .relative_bias = true},
      {.axes = {{.extent = 3, .window = 2}, {.extent = 4, .window = 2, .dilation = 2}},
       .heads = 2,
       .head_dim = 2,
       .head_dim_v = 3,
       .relative_bias = true,
       .scale = -0.75},
      {.axes = {{.extent = 2}, {.extent = 3, .window = 2, .causal = true}, {.extent = 3, .window = 3}},
       .heads = 2,
       .heads_kv = 2,
       .head_dim = 3,
       .head_dim_v = 2,
       .extra_tokens = 1,
       .scale = 0.5},
  };
}

/// Sum of products where both are finite: hidden slots have no part in it.
double visible_dot(const vector<double>& a, const vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isfinite(a[i]) && std::isfinite(b.at(i))) sum += a[i] * b[i];
  }
  return sum;
}

// Both operators are linear in each of their inputs, so that central differences are exact but for rounding.
TEST(SplitReference, GradientsAreFiniteDifferences) {
  constexpr double kGrid = 0x1p-10, kStep = 0x1p-3;
  for (const Problem& problem : small_problems()) {
    for (const Pass pass : {Pass::weights, Pass::values}) {
      SplitData data(problem, ElementType::f32, 23);
      const Pass backward = pass == Pass::weights ? Pass::weights_backward : Pass::values_backward;
      const char* result = pass == Pass::weights ? "attn" : "out";
      const auto given = test::to_double(data[pass == Pass::weights ? "dattn" : "dout"].view());
      const auto loss = [&] {
        return visible_dot(test::expected_split(problem, pass, data.inputs(pass)).at(result), given);
      };
      for (const TensorInfo& info : tensors_of(problem, pass)) {
        if (info.is_result()) continue;
        SCOPED_TRACE(problem.id() + " " + name(pass) + " " + std::string(info.name));
        Tensor& tensor = data[info.name];
        // Multiples of the grid, so that steps are exact in float; attn's hidden slots stay NaN.
        for (int64_t i = 0; i < tensor.elements(); ++i) {
          test::set(tensor, i, std::round(tensor.data<float>()[i] / kGrid) * kGrid);
        }
      }
      const auto gradients = test::expected_split(problem, backward, data.inputs(backward));
      for (const TensorInfo& info : tensors_of(problem, pass)) {
        if (info.is_result()) continue;
        Tensor& tensor = data[info.name];
        vector<double> differences;
        for (int64_t i = 0; i < tensor.elements(); ++i) {
          const double x = tensor.data<float>()[i];
          const auto loss_at = [&](double moved) {
            test::set(tensor, i, moved);
            return loss();
          };
          // A hidden slot that holds a number changes nothing either.
          const double middle = std::isnan(x) ? 0 : x;
          differences.push_back((loss_at(middle + kStep) - loss_at(middle - kStep)) / (2 * kStep));
          test::set(tensor, i, x);
        }
        // The loss rounds by the size of its terms.
        vector<double> sizes = test::term_sizes(problem, pass, data).of.at(result), weights = given;
        for (double& x : weights) x = std::abs(x);
        const double sums = test::roundings(problem, 0) + std::sqrt(static_cast<double>(weights.size()));
        const double bound = 2 * test::kDoubleUnit * sums * visible_dot(sizes, weights) / kStep;
        const std::string gradient = "d" + std::string(info.name);
        EXPECT_GT(test::max_abs(differences), 1e-2) << gradient << ": zeros would show nothing";
        expect_near(gradient, gradients.at(gradient), differences, [&](std::size_t) { return bound; });
      }
    }
  }
}

TEST(SplitReference, ChosenQueriesAreTheirRowsOfTheWhole) {
  for (const Problem& problem : small_problems()) {
    SplitData data(problem, ElementType::f32, 25);
    const auto axes = problem.axes3();
    vector<reference::Query> queries;
    vector<double> attn, out;
    const Views views = data.inputs(Pass::values), of_weights = data.inputs(Pass::weights);
    const auto all_attn = test::expected_split(problem, Pass::weights, of_weights).at("attn");
    const auto all_out = test::expected_split(problem, Pass::values, views).at("out");
    const auto append_row = [](const TokenShape& shape, const reference::Query& q, const vector<double>& all,
                               vector<double>& rows) {
      const int64_t row = test::row_index(shape, q.batch, q.token, q.head);
      rows.insert(rows.end(), all.begin() + row, all.begin() + row + shape.dim);
    };
    for (int64_t n = 0; n < 8; ++n) {
      const reference::Query query{n % problem.batch,
                                   {(n * 5 + 1) % axes[0].extent, (n * 7 + 2) % axes[1].extent, n * 3 % axes[2].extent},
                                   (n * 11 + 1) % problem.heads};
      queries.push_back(query);
      append_row(attn_shape(problem), query, all_attn, attn);
      append_row(out_shape(problem), query, all_out, out);
    }
    EXPECT_EQ(reference::weights(problem, test::bundle_of<Inputs>(problem, of_weights), queries), attn);
    EXPECT_EQ(reference::values(problem, views.at("attn"), test::bundle_of<Inputs>(problem, views), queries), out);
  }
}

// Two tokens, window 2, causal: the first query shows its own slot and hides the second.
TEST(SplitReference, TwoTokensByHand) {
  const Problem problem{
      .axes = {{.extent = 2, .window = 2, .causal = true}}, .head_dim = 1, .head_dim_v = 1, .relative_bias = true};
  SplitData data(problem, ElementType::f32, 1);
  const auto fill = [&](const char* name, const vector<double>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) test::set(data[name], static_cast<int64_t>(i), values[i]);
  };
  fill("q", {2, 3});
  fill("k", {5, 7});
  fill("v", {10, 20});
  fill("rpb", {0.5, 0.25, 100});
  fill("attn", {4, 1000, 2, 3});
  fill("dattn", {1, 1000, 10, 20});
  fill("dout", {1, -1});
  const auto run = [&](Pass pass) { return test::expected_split(problem, pass, data.inputs(pass)); };
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(run(Pass::weights).at("attn"), (vector<double>{10.25, -infinity, 15.5, 21.25}));
  const auto weights = run(Pass::weights_backward);
  EXPECT_EQ(weights.at("dq"), (vector<double>{5, 50 + 140}));
  EXPECT_EQ(weights.at("dk"), (vector<double>{2 + 30, 60}));
  EXPECT_EQ(weights.at("drpb"), (vector<double>{10, 1 + 20, 0}));
  EXPECT_EQ(run(Pass::values).at("out"), (vector<double>{40, 20 + 60}));
  const auto values = run(Pass::values_backward);
  EXPECT_EQ(values.at("dattn"), (vector<double>{10, 0, -10, -20}));
  EXPECT_EQ(values.at("dv"), (vector<double>{4 - 2, -3}));
}

}  // namespace
}  // namespace nalab
