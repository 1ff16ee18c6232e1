// What the sweeps of Faster Neighborhood Attention (2403.04690) give: shared by its tables, its figure and its claims.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "core/problem.h"
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
    "The quick form (60 problems per rank) is a sample of the cheaper 21 % of the 1-D, 16 % of the 2-D and 12 % of the "
    "3-D problems: if a group has no more than 60, its figures say nothing about larger ones.";

/// The variants of neighborhood attention that are compared. Of those that take the same time the first is the fastest.
inline constexpr const char* kKernels[] = {"naive", "gemm", "fused", "banded"};
/// Stands for the fastest of kKernels, problem by problem, of those that were measured.
inline constexpr const char* kBest = "best";

/// What a variant is called beside others: "fused (tiles)", "ours (best)".
std::string kernel_text(const std::string& kernel);

/// Two variants of which one is expected to be the faster one; the faster one may be kBest.
struct Pair {
  const char* faster;
  const char* slower;
  std::string text() const { return fmt::format("{} over {}", kernel_text(faster), kernel_text(slower)); }
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

  /// The rows of one problem by variant; dense is its self attention, and kBest is there if one of kKernels has times.
  using Rows = std::map<std::string, const store::Row*>;

  /// By rank, pass and type, f32 first.
  std::vector<Group> groups() const;
  /// The problems of a group by id; none if there is no such group.
  const std::map<std::string, Rows>& problems(const Group& group) const;

  Improvement improvement(const Group& group, const Pair& pair) const;
  /// Which of kKernels the best is not chosen from, as none of the group's rows has times of them, and why; empty if
  /// there are none.
  std::string left_out(const Group& group) const;

  /// Of the rows of these groups.
  std::vector<std::string> caption(const std::vector<Group>& shown) const;

 private:
  const store::Results& results_;
  std::map<std::tuple<int, std::string, std::string>, std::map<std::string, Rows>> groups_;
};

/// Why a variant has no times among the rows of a problem; empty if it has.
std::string why_not(const Sweep::Rows& rows, const std::string& variant);

/// What kBest is, in a sentence.
std::string about_best();

/// "+150 %"; what rounds to nothing is "+0 %".
std::string percent(double improvement);

/// The columns that say which group a row of a table is about.
template <class R>
std::vector<ColumnOf<R>> group_columns() {
  return {{{"rank"},
           "rank",
           [](const R& row) {
             return Value{row.group.rank_text(), exact(int64_t{row.group.rank})};
           }},
          {{"pass"},
           "pass",
           [](const R& row) {
             return Value{row.group.pass_text(), row.group.pass};
           }},
          {{"type"}, "type", [](const R& row) { return plain(row.group.type); }}};
}

/// How many of a group's problems a figure is about; a footnote gives the reason why it is not about the others.
Value problems_value(std::size_t measured, std::size_t problems, const std::string& why_not);

/// Averages and extremes of each group and pair of variants: tables 3 and 4.
Table improvement_table(const Sweep& sweep);

/// In how many problems each variant keeps up with each other one: tables 1 and 2.
Table matches_table(const Sweep& sweep);

/// In how many problems each of kKernels is the fastest.
Table fastest_table(const Sweep& sweep);

/// The variant that is taken for a pass of a problem.
using Choice = std::function<std::string_view(const Problem& problem, Pass pass)>;
/// That of best_variant(): what a call takes that names none.
std::string_view default_choice(const Problem& problem, Pass pass);

/// How a choice of variants compares with the fastest one: a row for each group, then one for each problem in which it
/// is slower beyond what is allowed. The second table is left out if there is no such problem.
std::vector<Table> choice_tables(const Sweep& sweep, const Choice& choice = default_choice);

}  // namespace nalab::report
