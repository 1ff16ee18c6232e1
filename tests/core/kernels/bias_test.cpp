// What must hold of a relative positional bias whatever the numbers are, for every variant that takes one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "core/compare.h"
#include "tests/core/definition.h"
#include "tests/core/kernels/backward.h"
#include "tests/core/kernels/bounds.h"
#include "tests/core/operators/split.h"

namespace nalab {
namespace {

using std::vector;
using test::Setting;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Whether weights are powers of 2 by a cubic, and then rounded to bf16.
bool rounds_weights(const Setting& setting) { return find_arithmetic(setting.arithmetic).parts(Pass::forward) == 1; }

/// Every rank; windows even and odd, strided, dilated, causal, of one token, of all; several tiles. Without extra
/// tokens, which have no bias.
vector<Problem> problems() {
  return {
      {.axes = {{.extent = 67, .window = 12, .stride = 5}},
       .batch = 2,
       .heads = 2,
       .head_dim = 8,
       .head_dim_v = 5,
       .relative_bias = true},
      {.axes = {{.extent = 11, .window = 4, .stride = 2, .causal = true}, {.extent = 13, .window = 5, .dilation = 2}},
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 12,
       .head_dim_v = 16,
       .relative_bias = true,
       .scale = -0.3},
      {.axes = {{.extent = 4, .window = 2},
                {.extent = 5, .window = 3, .stride = 3, .causal = true},
                {.extent = 7, .window = 3}},
       .heads = 2,
       .head_dim = 7,
       .head_dim_v = 8,
       .relative_bias = true},
      {.axes = {{.extent = 6, .window = 6}, {.extent = 9, .window = 9}},
       .heads = 2,
       .heads_kv = 2,
       .head_dim = 8,
       .head_dim_v = 8,
       .relative_bias = true},
      {.axes = {{.extent = 19}}, .heads = 2, .head_dim = 4, .head_dim_v = 4, .relative_bias = true},
  };
}

/// Calls f(variant, problem, setting) for every variant that takes a bias, type and way to run a pass.
template <class F>
void for_every_setting(const vector<Problem>& on, Pass pass, F f) {
  for (Problem problem : on) {
    for (ElementType type : test::kElementTypes) {
      problem.type = type;
      for (const Variant& variant : variants()) {
        if (variant.supports(problem, pass)) continue;
        for (const Setting& setting : test::settings(variant, problem, pass)) {
          SCOPED_TRACE(std::string(variant.name) + " " + setting.text() + " " + problem.id());
          f(variant, problem, setting);
          if (::testing::Test::HasFailure()) return;
        }
      }
    }
  }
}

template <class F>
void for_every_forward(F f) {
  for_every_setting(problems(), Pass::forward, f);
}
template <class F>
void for_every_backward(F f) {
  for_every_setting(problems(), Pass::backward, f);
}

void fill(Tensor& tensor, double x) {
  for (int64_t i = 0; i < tensor.elements(); ++i) test::set(tensor, i, x);
}

vector<vector<double>> gradients_by(const Variant& variant, const Problem& problem, const test::Data& data,
                                    const Setting& setting) {
  vector<vector<double>> gradients;
  for (auto& tensor : test::run_backward(variant, problem, data, setting)) gradients.push_back(tensor.values());
  return gradients;
}

/// Sum of p |dp| over all pairs of each head: what the gradients of its scores are differences of.
vector<double> magnitudes(const Problem& problem, const test::Data& data) {
  Problem split = problem;
  split.scale = problem.effective_scale();
  const int64_t slots = problem.keys_per_query();
  const auto p = test::softmax_rows(reference::weights(split, data.inputs()), slots);
  const Tensor any(ElementType::f32, attn_shape(problem));
  const auto dp = reference::values_backward(split, any.view(), data.inputs(), data["dout"].view()).dattn;
  vector<double> sums(static_cast<std::size_t>(problem.heads), 0.0);
  for (std::size_t i = 0; i < p.size(); ++i) {
    const auto head = static_cast<int64_t>(i) / slots % problem.heads;
    sums[static_cast<std::size_t>(head)] += p[i] * std::abs(dp[i]);
  }
  return sums;
}

TEST(Bias, GradientsOfEachHeadAddUpToNothing) {
  for_every_backward([](const Variant& variant, const Problem& problem, const Setting& setting) {
    const test::Data data(problem, 61);
    const vector<double> drpb = gradients_by(variant, problem, data, setting).back();
    const vector<double> terms = magnitudes(problem, data);
    const double score = reference::forward(problem, data.inputs()).max_abs_score;
    // Terms of a query: its products and sums round in float, its weights by the size of the scores; of the smaller
    // types, numbers may be rounded once on their way.
    const double roundings = static_cast<double>(problem.keys_per_query() + problem.head_dim + problem.head_dim_v);
    const double unit = problem.type == ElementType::f32 ? 0 : problem.type == ElementType::f16 ? 0x1p-11 : 0x1p-8;
    const double bound = 0x1p-24 * (roundings + score + 8) + unit;
    for (int64_t h = 0; h < problem.heads; ++h) {
      double sum = 0;
      for (int64_t i = 0; i < problem.bias_entries(); ++i) {
        sum += drpb[static_cast<std::size_t>(h * problem.bias_entries() + i)];
      }
      EXPECT_NEAR(sum, 0, 2 * bound * terms[static_cast<std::size_t>(h)]) << "head " << h;
    }
  });
}

TEST(Bias, AConstantTableMovesLseAndLeavesOutAlone) {
  for_every_forward([](const Variant& variant, const Problem& problem, const Setting& setting) {
    test::Data data(problem, 63);
    fill(data["rpb"], 0);
    Problem plain = problem;
    plain.relative_bias = false;
    const test::Data plain_data(plain, 63);
    const double score = reference::forward(problem, data.inputs()).max_abs_score;
    // The same q, k, v; in the same arithmetic.
    auto without = test::run_forward(variant, plain, plain_data.inputs(), setting);
    const vector<double> out = without.out.values(), lse = without.lse.values();
    for (const double constant : {0.0, 0.75, -300.0}) {
      fill(data["rpb"], constant);
      auto moved = test::run_forward(variant, problem, data.inputs(), setting);
      vector<double> back = moved.lse.values();
      for (double& x : back) x -= constant;
      // Scores round where the constant has moved them to.
      const Tolerance bound = tolerance(problem.type, TensorKind::output, score + std::abs(constant));
      const vector<double> moved_out = moved.out.values();
      const Comparison out_errors = compare(std::span(moved_out), std::span(out), bound, 1);
      EXPECT_TRUE(out_errors.ok) << constant << " out: " << out_errors.to_string();
      const double greatest = std::abs(constant) + score + 10;
      for (std::size_t i = 0; i < lse.size(); ++i) {
        ASSERT_NEAR(back[i], lse[i], rounds_weights(setting) ? 2 * test::kCubicError : 0x1p-22 * greatest)
            << constant << " lse at " << i;
      }
    }
  });
}

TEST(Bias, OneOffsetAloneGathersItsValues) {
  for_every_forward([](const Variant& variant, const Problem& problem, const Setting& setting) {
    const test::LayoutMask mask(problem);
    const auto axes = problem.axes3();
    test::Data data(problem, 65);
    const vector<double> v = test::to_double(data["v"].view());
    const test::LseBound lse_bound(problem, data, rounds_weights(setting) ? test::kCubicError : 0);
    int64_t gathered = 0;
    // Some entries; others for each head.
    for (int64_t first = 0; first < problem.bias_entries(); first += 1 + problem.bias_entries() / 5) {
      // Callers mask with the lowest float, too.
      fill(data["rpb"], first % 2 == 0 ? -1e30 : static_cast<double>(std::numeric_limits<float>::lowest()));
      for (int64_t h = 0; h < problem.heads; ++h) {
        test::set(data["rpb"], h * problem.bias_entries() + (first + h) % problem.bias_entries(), 0);
      }
      auto result = test::run_forward(variant, problem, data.inputs(), setting);
      const vector<double> out = result.out.values(), lse = result.lse.values();
      for (double x : out) ASSERT_TRUE(std::isfinite(x));
      const vector<double> expected_lse = reference::forward(problem, data.inputs()).lse;
      const TokenShape shape = out_shape(problem);
      for (int64_t row = 0; row < shape.elements() / shape.dim; ++row) {
        const int64_t h = row % problem.heads;
        const auto token = token_at(shape.layout, row / problem.heads % problem.tokens());
        const auto index = token_at(data["rpb"].shape().layout, (first + h) % problem.bias_entries());
        if (!mask.attends_at(token, index)) continue;
        ++gathered;
        std::array<int64_t, 3> key;
        for (std::size_t a = 0; a < 3; ++a) key[a] = token[a] + (index[a] - axes[a].window + 1) * axes[a].dilation;
        const int64_t from = test::row_index(v_shape(problem), row / problem.heads / problem.tokens(), key,
                                             h * problem.heads_kv / problem.heads);
        for (int64_t c = 0; c < shape.dim; ++c) {
          const double value = v[static_cast<std::size_t>(from + c)];
          const double bound = (rounds_weights(setting) ? 0x1p-8 : 0x1p-22) * std::abs(value);
          ASSERT_NEAR(out[static_cast<std::size_t>(row * shape.dim + c)], value, bound);
        }
        const double expected = expected_lse[static_cast<std::size_t>(row)];
        ASSERT_NEAR(lse[static_cast<std::size_t>(row)], expected, lse_bound.at(expected));
      }
    }
    EXPECT_GT(gathered, 0);
  });
}

/// Attention over all tokens with a bias as Swin has it: a number for each pair, gathered from a table by the index of
/// query - key, shifted to begin at 0; softmax and its derivative over whole rows.
struct DenseAttention {
  vector<double> out, lse, dtable;

  DenseAttention(const Problem& p, const test::Data& data, const vector<double>& table) {
    const auto axes = p.axes3();
    const std::array<int64_t, 3> layout{axes[0].extent, axes[1].extent, axes[2].extent};
    const int64_t n = p.tokens(), entries = p.bias_entries();
    vector<int64_t> relative_index;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const auto query = token_at(layout, i), key = token_at(layout, j);
        int64_t index = 0;
        for (std::size_t a = 0; a < 3; ++a) index = index * (2 * layout[a] - 1) + query[a] - key[a] + layout[a] - 1;
        relative_index.push_back(index);
      }
    }
    const auto q = test::to_double(data["q"].view()), k = test::to_double(data["k"].view()),
               v = test::to_double(data["v"].view()), dout = test::to_double(data["dout"].view());
    const auto dot = [](const vector<double>& a, int64_t i, const vector<double>& b, int64_t j, int64_t dim) {
      double sum = 0;
      for (int64_t c = 0; c < dim; ++c) {
        sum += a[static_cast<std::size_t>(i * dim + c)] * b[static_cast<std::size_t>(j * dim + c)];
      }
      return sum;
    };
    dtable.assign(table.size(), 0.0);
    for (int64_t b = 0; b < p.batch; ++b) {
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t h = 0; h < p.heads; ++h) {
          const int64_t row = (b * n + i) * p.heads + h;
          const auto key_row = [&](int64_t j) { return (b * n + j) * p.heads_kv + h * p.heads_kv / p.heads; };
          const auto entry = [&](int64_t j) {
            return static_cast<std::size_t>(h * entries + relative_index[static_cast<std::size_t>(i * n + j)]);
          };
          vector<double> weight, gradient;
          double sum = 0, delta = 0;
          for (int64_t j = 0; j < n; ++j) {
            const double score = p.effective_scale() * dot(q, row, k, key_row(j), p.head_dim) + table[entry(j)];
            sum += weight.emplace_back(std::exp(score));
          }
          for (int64_t j = 0; j < n; ++j) {
            weight[static_cast<std::size_t>(j)] /= sum;
            gradient.push_back(dot(dout, row, v, key_row(j), p.head_dim_v));
            delta += weight[static_cast<std::size_t>(j)] * gradient.back();
          }
          lse.push_back(std::log(sum));
          out.resize(out.size() + static_cast<std::size_t>(p.head_dim_v), 0.0);
          for (int64_t j = 0; j < n; ++j) {
            const double w = weight[static_cast<std::size_t>(j)];
            for (int64_t c = 0; c < p.head_dim_v; ++c) {
              out[static_cast<std::size_t>(row * p.head_dim_v + c)] +=
                  w * v[static_cast<std::size_t>(key_row(j) * p.head_dim_v + c)];
            }
            dtable[entry(j)] += w * (gradient[static_cast<std::size_t>(j)] - delta);
          }
        }
      }
    }
  }
};

/// The offsets of a table the other way round, for each head.
vector<double> turned(vector<double> table, int64_t entries) {
  for (auto head = table.begin(); head != table.end(); head += entries) std::reverse(head, head + entries);
  return table;
}

// Swin's tables are of query - key, and those here of key - query.
TEST(Bias, WithTheLayoutAsWindowIsThatOfSwin) {
  vector<Problem> swin = {
      {.axes = {{.extent = 23, .window = 23}}, .batch = 2, .heads = 2, .head_dim = 8, .head_dim_v = 8},
      {.axes = {{.extent = 4, .window = 4}, {.extent = 7, .window = 7, .stride = 3}}, .heads = 4, .heads_kv = 2},
      {.axes = {{.extent = 2, .window = 2}, {.extent = 3, .window = 3}, {.extent = 5, .window = 5}}, .heads = 2},
  };
  for (Problem& problem : swin) problem.relative_bias = true;
  for_every_setting(swin, Pass::backward, [](const Variant& variant, const Problem& problem, const Setting& setting) {
    const test::Data data(problem, 67);
    const vector<double> rpb = test::to_double(data["rpb"].view());
    const DenseAttention dense(problem, data, turned(rpb, problem.bias_entries()));
    const auto expect_near = [&](const char* name, const vector<double>& values, const vector<double>& expected,
                                 TensorKind kind) {
      const Comparison errors = compare(std::span(values), std::span(expected), tolerance(problem.type, kind), 1);
      EXPECT_TRUE(errors.ok) << name << ": " << errors.to_string();
    };
    auto forward = test::run_forward(variant, problem, data.inputs(), setting);
    expect_near("out", forward.out.values(), dense.out, TensorKind::output);
    expect_near("lse", forward.lse.values(), dense.lse, TensorKind::output);
    expect_near("drpb", gradients_by(variant, problem, data, setting).back(),
                turned(dense.dtable, problem.bias_entries()), TensorKind::gradient);
  });
}

/// Entries of one head that some pair has, by looking at every query and entry.
std::set<int64_t> used_entries(const Problem& problem, const test::LayoutMask& mask) {
  const TokenShape table = rpb_shape(problem), layout = q_shape(problem);
  std::set<int64_t> used;
  for (int64_t entry = 0; entry < problem.bias_entries(); ++entry) {
    for (int64_t token = 0; token < problem.tokens(); ++token) {
      if (!mask.attends_at(token_at(layout.layout, token), token_at(table.layout, entry))) continue;
      used.insert(entry);
      break;
    }
  }
  return used;
}

TEST(Bias, EntriesThatNoPairHasHaveNoInfluenceAndNoGradient) {
  int64_t unused = 0;
  for_every_backward([&](const Variant& variant, const Problem& problem, const Setting& setting) {
    const std::set<int64_t> used = used_entries(problem, test::LayoutMask(problem));
    test::Data data(problem, 69);
    const auto run = [&] {
      auto forward = test::run_forward(variant, problem, data.inputs(), setting);
      vector<vector<double>> results{forward.out.values(), forward.lse.values()};
      for (auto& gradient : gradients_by(variant, problem, data, setting)) results.push_back(std::move(gradient));
      return results;
    };
    const auto clean = run();
    for (int64_t i = 0; i < data["rpb"].elements(); ++i) {
      if (used.contains(i % problem.bias_entries())) continue;
      EXPECT_EQ(clean.back()[static_cast<std::size_t>(i)], 0) << "drpb at " << i;
      test::set(data["rpb"], i, i % 3 == 0 ? kNan : i % 3 == 1 ? kInfinity : -1e30);
      ++unused;
    }
    EXPECT_EQ(run(), clean);
  });
  EXPECT_GT(unused, 0);
}

/// Whether a bad bias of one head may reach an element of a gradient: of a query that has a pair of its index, or of
/// what such a query attends to.
bool may_reach(const Problem& problem, const test::LayoutMask& mask, const TensorInfo& info, int64_t flat, int64_t head,
               const std::array<int64_t, 3>& index) {
  const TokenShape q = q_shape(problem);
  const auto any_query = [&](const auto& wanted) {
    for (int64_t n = 0; n < problem.tokens(); ++n) {
      const auto query = token_at(q.layout, n);
      if (mask.attends_at(query, index) && wanted(query)) return true;
    }
    return false;
  };
  if (info.over == Over::offsets) {
    return flat / problem.bias_entries() == head && any_query([&](const auto& query) {
             return mask.attends_at(query, token_at(info.shape.layout, flat % problem.bias_entries()));
           });
  }
  const int64_t of_row = flat / info.shape.dim % info.shape.heads;
  const auto token = token_at(info.shape.layout, flat / info.shape.dim / info.shape.heads % info.shape.tokens());
  if (info.name == "dq") return of_row == head && mask.attends_at(token, index);
  return of_row == head * problem.heads_kv / problem.heads &&
         any_query([&](const auto& query) { return info.over != Over::layout || mask.attends(query, token); });
}

vector<Problem> small_problems() {
  return {
      {.axes = {{.extent = 29, .window = 5, .stride = 2}},
       .batch = 2,
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 6,
       .head_dim_v = 5,
       .relative_bias = true},
      {.axes = {{.extent = 5, .window = 4, .stride = 2, .causal = true}, {.extent = 6, .window = 2, .dilation = 2}},
       .heads = 2,
       .heads_kv = 2,
       .head_dim = 3,
       .head_dim_v = 4,
       .extra_tokens = 1,
       .relative_bias = true},
      {.axes = {{.extent = 5, .window = 5}}, .heads = 2, .head_dim = 3, .head_dim_v = 3, .relative_bias = true},
      {.axes = {{.extent = 4}}, .heads = 2, .head_dim = 3, .head_dim_v = 3, .relative_bias = true},
  };
}

template <class F>
void for_small_problems(F f) {
  for_every_setting(small_problems(), Pass::backward, f);
}

TEST(Bias, NanReachesTheGradientsOfTheQueriesOfItsIndexAndOfWhatTheyAttendTo) {
  for_small_problems([](const Variant& variant, const Problem& problem, const Setting& setting) {
    const test::LayoutMask mask(problem);
    test::Data data(problem, 71);
    const auto clean = gradients_by(variant, problem, data, setting);
    const auto list = test::gradients_of(problem);
    Tensor& rpb = data["rpb"];
    // Entries of all heads in turn.
    for (int64_t entry = 0; entry < problem.bias_entries(); ++entry) {
      const int64_t head = entry % problem.heads, i = head * problem.bias_entries() + entry;
      const auto index = token_at(rpb.shape().layout, entry);
      const float old = rpb.data<float>()[i];
      test::set(rpb, i, kNan);
      const auto spoilt = gradients_by(variant, problem, data, setting);
      test::set(rpb, i, old);
      for (std::size_t t = 0; t < list.size(); ++t) {
        for (std::size_t n = 0; n < clean[t].size(); ++n) {
          if (may_reach(problem, mask, list[t], static_cast<int64_t>(n), head, index)) {
            ASSERT_TRUE(std::isnan(spoilt[t][n])) << list[t].name << " at " << n << ", bias " << i;
          } else {
            ASSERT_EQ(spoilt[t][n], clean[t][n]) << list[t].name << " at " << n << ", bias " << i;
          }
        }
      }
    }
  });
}

TEST(Bias, MinusInfinityMasksItsOffsetInTheGradients) {
  for_small_problems([](const Variant& variant, const Problem& problem, const Setting& setting) {
    test::Data data(problem, 73);
    const auto list = test::gradients_of(problem);
    Tensor& rpb = data["rpb"];
    for (int64_t entry = 0; entry < problem.bias_entries(); ++entry) {
      const int64_t i = entry % problem.heads * problem.bias_entries() + entry;
      const float old = rpb.data<float>()[i];
      test::set(rpb, i, -kInfinity);
      const auto gradients = gradients_by(variant, problem, data, setting);
      const auto expected = test::expected_gradients(problem, data);
      const Tolerance bound =
          tolerance(problem.type, TensorKind::gradient, reference::forward(problem, data.inputs()).max_abs_score);
      for (std::size_t t = 0; t < list.size(); ++t) {
        const Comparison errors =
            compare(std::span(gradients[t]), std::span(expected[t]), bound, test::max_abs(expected[2]));
        EXPECT_TRUE(errors.ok) << list[t].name << " with bias " << i << ": " << errors.to_string();
      }
      const double masked = gradients.back()[static_cast<std::size_t>(i)];
      // A query with no other key has no finite score, and NaN.
      EXPECT_TRUE(masked == 0 || (std::isnan(masked) && std::isnan(expected.back()[static_cast<std::size_t>(i)])));
      test::set(rpb, i, old);
    }
  });
}

}  // namespace
}  // namespace nalab
