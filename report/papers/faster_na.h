// What the sweeps of Faster Neighborhood Attention (2403.04690) give: shared by its tables, its figure and its claims.
#pragma once

#include <fmt/format.h>

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "report/format.h"
#include "report/papers/lookup.h"
#include "report/table.h"
#include "store/schema.h"

namespace nalab::report {

/// The table that configurations of the sweeps name.
inline constexpr const char* kFasterNa = "faster_na";
/// The name of improvement_table().
inline constexpr const char* kImprovements = "faster_na_improvement";
/// configs/fna_1d.yaml, fna_2d.yaml and fna_3d.yaml say how these shares come about.
inline constexpr const char* kQuickForm =
    "The quick form (120 problems per rank) is a sample of the cheaper 32 % of the 1-D, 31 % of the 2-D and 21 % of "
    "the "
    "3-D problems: if a group has no more than 120, its figures say nothing about larger ones.";

/// Two variants of which one is expected to be the faster one.
struct Pair {
  const char* faster;
  const char* slower;
  std::string text() const { return fmt::format("{} over {}", faster, slower); }
  std::string key() const { return fmt::format("{}_over_{}", faster, slower); }
};
/// Problems of one rank, in one type and pass.
struct Group {
  int rank = 1;
  std::string pass, type;

  std::string rank_text() const { return fmt::format("{}-D", rank); }
  std::string pass_text() const { return report::pass_text(pass); }
  /// The paper has no bf16: its other type of 16 bits stands beside it.
  std::string published_type() const { return type == "f32" ? "fp32" : "fp16"; }
};

/// How a pair of variants compares in a group.
struct Improvement {
  std::vector<double> speedups;  ///< of the problems in which both were measured
  std::size_t few = 0;           ///< of the speedups rest on fewer than kFewestSamples samples
  std::size_t problems = 0;
  std::string why_not;  ///< of the first problem in which one was not; empty if all were

  /// How many speedups are not reliable, in words; empty if all are.
  std::string few_samples() const { return few_samples_of(few, speedups.size()); }
  double average() const;  ///< of the improvements, speedup - 1
  double geometric_mean() const;
  double at(double quantile_of) const;
};

/// The rows of the configurations that name the table, by group and problem. Refers to the results, which must outlive
/// it.
class Sweep {
 public:
  explicit Sweep(const store::Results& results);

  /// By rank, pass and type, f32 first.
  std::vector<Group> groups() const;

  Improvement improvement(const Group& group, const Pair& pair) const;

  /// Of the rows of these groups.
  std::vector<std::string> caption(const std::vector<Group>& shown) const;

 private:
  /// The rows of one problem by variant; dense is its self attention.
  using Rows = std::map<std::string, const store::Row*>;

  static std::string why_not(const Rows& rows, const Pair& pair);

  const store::Results& results_;
  std::map<std::tuple<int, std::string, std::string>, std::map<std::string, Rows>> groups_;
};

/// "+150 %"; what rounds to nothing is "+0 %".
std::string percent(double improvement);

/// Averages and extremes of each group and pair of variants: tables 3 and 4.
Table improvement_table(const Sweep& sweep);

/// In how many problems each variant keeps up with each other one: tables 1 and 2.
Table matches_table(const Sweep& sweep);

}  // namespace nalab::report
