// Beside the tables of Faster Neighborhood Attention (2403.04690): which of our variants is the fastest how often, and
// how what a call takes by itself compares with it.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/kernels/registry.h"
#include "report/figures.h"
#include "report/papers/faster_na.h"
#include "store/rows.h"
#include "store/samples.h"

namespace nalab::report {

using store::Row;

namespace {

/// What a call takes may be slower than the fastest variant by this much: medians of few samples scatter by that.
constexpr double kAllowed = 1.03;

std::string few_problems(std::size_t few, std::size_t all) {
  if (few == 0) return {};
  return fmt::format("{} of {} problem{} {} a time of fewer than {} samples", few, all, all == 1 ? "" : "s",
                     few == 1 ? "has" : "have", kFewestSamples);
}

bool has_few_samples(const Row& row) { return row.samples.size() < kFewestSamples; }

Value count_value(std::size_t count) { return plain(exact(static_cast<int64_t>(count))); }

Value share_value(std::size_t count, std::size_t all, const std::string& note) {
  const double share = static_cast<double>(count) / static_cast<double>(all);
  return {fmt::format("{:.1f} %", share * 100), exact(share), note};
}

/// "56x56, window 7x7, dilation 2x2, batch 4, 2 heads of 32": stride, dilation and batch only where they are not 1.
std::string problem_text(const Row& row) {
  std::string text = fmt::format("{}, window {}", row.layout, row.window);
  if (!is_everywhere(1, "stride", row.stride)) text += ", stride " + row.stride;
  if (!is_everywhere(1, "dilation", row.dilation)) text += ", dilation " + row.dilation;
  if (row.batch != 1) text += fmt::format(", batch {}", row.batch);
  return text + fmt::format(", {} head{} of {}", row.heads, row.heads == 1 ? "" : "s", row.head_dim);
}

// Which is the fastest.

/// In how many problems of a group one variant is the fastest.
struct FastestRecord {
  Group group;
  std::string kernel;
  std::size_t problems = 0;  ///< in which some variant has times
  std::size_t measured = 0;  ///< of these: in which this variant has
  std::size_t fastest = 0;
  std::size_t few = 0;       ///< of the problems have a variant with fewer than kFewestSamples samples
  std::string why_not = {};  ///< of the first problem in which this one has none; empty if it always has

  Value share() const {
    if (measured == 0) return absent(why_not);
    return share_value(fastest, problems,
                       measured == problems ? ""
                                            : fmt::format("measured in {} of {} problems; the first other one: {}",
                                                          measured, problems, why_not));
  }
};

struct FastestRow {
  Group group;
  Value problems = {};
  std::map<std::string, FastestRecord> kernels = {};
};

FastestRow fastest_row(const Sweep& sweep, const Group& group) {
  FastestRow result{group};
  std::size_t problems = 0, few = 0;
  std::string why_no_problem;
  for (const char* kernel : kKernels) result.kernels[kernel] = {group, kernel};
  for (const auto& [problem, rows] : sweep.problems(group)) {
    if (!rows.contains(kBest)) {
      if (why_no_problem.empty()) why_no_problem = why_not(rows, kBest);
      continue;
    }
    ++problems;
    bool is_few = false;
    for (auto& [kernel, record] : result.kernels) {
      const std::string why = why_not(rows, kernel);
      if (!why.empty()) {
        if (record.why_not.empty()) record.why_not = why;
        continue;
      }
      ++record.measured;
      is_few = is_few || has_few_samples(*rows.at(kernel));
      if (rows.at(kernel) == rows.at(kBest)) ++record.fastest;
    }
    if (is_few) ++few;
  }
  for (auto& [kernel, record] : result.kernels) {
    record.problems = problems;
    record.few = few;
    if (problems == 0) record.why_not = why_no_problem;
  }
  result.problems = problems_value(problems, sweep.problems(group).size(), why_no_problem);
  if (const std::string note = few_problems(few, problems); !note.empty()) {
    result.problems.footnote += (why_no_problem.empty() ? "" : "; ") + note;
  }
  return result;
}

std::vector<ColumnOf<FastestRow>> fastest_columns() {
  using R = FastestRow;
  std::vector<ColumnOf<R>> columns;
  for (const ColumnOf<R>& column : group_columns<R>()) columns.push_back({column.shown, "", column.value});
  columns.push_back({{"problems", "", true}, "", [](const R& row) { return row.problems; }});
  for (const char* kernel : kKernels) {
    columns.push_back({{kernel_text(kernel), "the fastest", true}, "", [kernel](const R& row) {
                         return row.kernels.at(kernel).share();
                       }});
  }
  return columns;
}

/// A line for each variant.
std::vector<ColumnOf<FastestRecord>> fastest_record_columns() {
  using R = FastestRecord;
  std::vector<ColumnOf<R>> columns;
  for (const ColumnOf<R>& column : group_columns<R>()) columns.push_back({{}, column.field, column.value});
  const std::vector<ColumnOf<R>> figures{
      {{}, "variant", [](const R& row) { return plain(row.kernel); }},
      {{}, "problems", [](const R& row) { return count_value(row.problems); }},
      {{}, "measured", [](const R& row) { return count_value(row.measured); }},
      {{}, "fastest", [](const R& row) { return count_value(row.fastest); }},
      {{}, "share", &R::share},
      {{}, "with_few_samples", [](const R& row) { return count_value(row.few); }},
  };
  columns.insert(columns.end(), figures.begin(), figures.end());
  return columns;
}

// What a call takes by itself.

/// What is taken for one problem of a group, beside the fastest variant that was measured.
struct Taken {
  Group group;
  const Row* fastest = nullptr;
  const Row* row = nullptr;   ///< of the variant; null if the time is estimated from those of several rows
  std::string variants = {};  ///< "banded"; "banded + fused" if the two passes have different ones
  double seconds = 0;         ///< if it was measured
  bool is_few = false;        ///< a time that the ratio rests on has fewer than kFewestSamples samples
  std::string why_not = {};   ///< empty if it was measured

  double fastest_seconds() const { return store::median(fastest->samples); }
  double ratio() const { return seconds / fastest_seconds(); }
  bool is_slower() const { return ratio() > kAllowed; }

  Value slower_by() const {
    return {percent(ratio() - 1), exact(ratio()),
            is_few ? fmt::format("a time of fewer than {} samples", kFewestSamples) : ""};
  }
  Value problem() const { return {problem_text(*fastest), fastest->problem}; }
};

/// Estimates the time of two passes of different variants: that of both passes of the second, whose forward part (by
/// FLOPs) is scaled by how the forward passes of the two compare. Differences of the times themselves were tried: rows
/// of different passes are minutes apart, and a machine that is slower in between gave negative times.
void estimate(Taken& taken, const Sweep& sweep, const Sweep::Rows& rows, const Problem& problem,
              const std::string& forward, const std::string& backward) {
  static const Sweep::Rows none;
  const auto& problems = sweep.problems({taken.group.rank, "forward", taken.group.type});
  const auto found = problems.find(taken.fastest->problem);
  const Sweep::Rows& alone = found == problems.end() ? none : found->second;
  taken.why_not = why_not(rows, backward);
  for (const std::string& variant : {backward, forward}) {
    const std::string why = why_not(alone, variant);
    if (taken.why_not.empty() && !why.empty()) taken.why_not = "forward pass: " + why;
  }
  if (!taken.why_not.empty()) return;
  const auto flops = static_cast<double>(problem.useful_flops(Pass::forward));
  const double share = flops / (flops + static_cast<double>(problem.useful_flops(Pass::backward)));
  const double scale = store::median(alone.at(forward)->samples) / store::median(alone.at(backward)->samples);
  taken.seconds = store::median(rows.at(backward)->samples) * (1 - share + share * scale);
  for (const Row* row : {rows.at(backward), alone.at(backward), alone.at(forward)}) {
    taken.is_few = taken.is_few || has_few_samples(*row);
  }
}

/// Requires that a variant has times.
Taken taken_for(const Sweep& sweep, const Group& group, const Sweep::Rows& rows, const Choice& choice) {
  Taken taken{group, rows.at(kBest)};
  taken.is_few = has_few_samples(*taken.fastest);
  const Problem problem = store::problem_of(*taken.fastest);
  const std::string forward(choice(problem, Pass::forward));
  const std::string backward(group.pass == "forward" ? forward : choice(problem, Pass::backward));
  if (forward != backward) {
    taken.variants = fmt::format("{} + {}", forward, backward);
    estimate(taken, sweep, rows, problem, forward, backward);
    return taken;
  }
  taken.variants = forward;
  taken.why_not = why_not(rows, forward);
  if (!taken.why_not.empty()) return taken;
  taken.row = rows.at(forward);
  taken.seconds = store::median(taken.row->samples);
  taken.is_few = taken.is_few || has_few_samples(*taken.row);
  return taken;
}

/// What is taken in a group.
struct ChoiceRow {
  Group group;
  std::vector<Taken> measured = {};
  std::map<std::string, std::size_t> variants = {};  ///< how often each is taken, measured or not
  std::size_t problems = 0, estimated = 0, slower = 0, few = 0;
  std::string why_not = {};  ///< of the first problem that was not measured; empty if all were

  /// Requires that something was measured.
  const Taken& worst() const { return *std::ranges::max_element(measured, {}, &Taken::ratio); }

  Value takes() const {
    if (variants.empty()) return absent(why_not);
    std::vector<std::string> texts;
    bool is_mixed = false;
    for (const auto& [variant, count] : variants) {
      texts.push_back(fmt::format("{} {}", variant, count));
      is_mixed = is_mixed || variant.find(" + ") != std::string::npos;
    }
    const std::string how =
        "a + b: a forward and b backward, which no row times together. The time is estimated: that of both passes of "
        "b, "
        "in which the forward pass, by its share of the FLOPs, takes as much longer or shorter as a takes in the "
        "forward rows";
    return {fmt::format("{}", fmt::join(texts, ", ")), fmt::format("{}", fmt::join(texts, "; ")), is_mixed ? how : ""};
  }
  Value share() const {
    return share_value(measured.size() - slower, measured.size(), few_problems(few, measured.size()));
  }
};

ChoiceRow choice_row(const Sweep& sweep, const Group& group, const Choice& choice) {
  ChoiceRow row{group};
  for (const auto& [problem, rows] : sweep.problems(group)) {
    ++row.problems;
    std::string why = why_not(rows, kBest);
    if (why.empty()) {
      const Taken taken = taken_for(sweep, group, rows, choice);
      ++row.variants[taken.variants];
      if (taken.why_not.empty()) row.measured.push_back(taken);
      why = taken.why_not;
    }
    if (row.why_not.empty()) row.why_not = why;
  }
  for (const Taken& taken : row.measured) {
    if (taken.is_slower()) ++row.slower;
    if (taken.is_few) ++row.few;
    if (taken.row == nullptr) ++row.estimated;
  }
  return row;
}

/// A column's value of rows in which something was compared.
template <class F>
auto if_compared(F value) {
  return [value](const ChoiceRow& row) { return row.measured.empty() ? absent(row.why_not) : value(row); };
}

std::vector<ColumnOf<ChoiceRow>> choice_columns() {
  using R = ChoiceRow;
  std::vector<ColumnOf<R>> columns = group_columns<R>();
  const std::vector<ColumnOf<R>> figures{
      {{"problems", "", true},
       "problems",
       [](const R& row) { return problems_value(row.measured.size(), row.problems, row.why_not); }},
      {{}, "measured", [](const R& row) { return count_value(row.measured.size()); }},
      {{"takes"}, "takes", &R::takes},
      {{}, "estimated", [](const R& row) { return count_value(row.estimated); }},
      {{fmt::format("fastest within {:.0f} %", (kAllowed - 1) * 100), "", true},
       "share_fastest",
       if_compared([](const R& row) { return row.share(); })},
      {{"slower", "", true}, "slower", if_compared([](const R& row) { return count_value(row.slower); })},
      {{"by", "worst", true}, "worst_ratio", if_compared([](const R& row) { return row.worst().slower_by(); })},
      {{"problem", "worst"}, "worst_problem", if_compared([](const R& row) {
         Value value = row.worst().problem();
         const std::string fastest = row.worst().fastest->variant;
         if (row.worst().variants != fastest) value.text += fmt::format(": {}, not {}", row.worst().variants, fastest);
         return value;
       })},
      {{}, "worst_takes", if_compared([](const R& row) { return plain(row.worst().variants); })},
      {{}, "worst_fastest", if_compared([](const R& row) { return plain(row.worst().fastest->variant); })},
      {{}, "with_few_samples", [](const R& row) { return count_value(row.few); }},
  };
  columns.insert(columns.end(), figures.begin(), figures.end());
  return columns;
}

Value milliseconds(double seconds) { return {significant(seconds * 1e3, 3), exact(seconds)}; }

Value spread_of(const Row& row) {
  const double spread = store::spread(row.samples);
  return row.samples.size() < 2 ? absent("one sample has no spread")
                                : Value{fmt::format("{:.0f} %", spread * 100), exact(spread)};
}

std::vector<ColumnOf<Taken>> slower_columns() {
  using R = Taken;
  std::vector<ColumnOf<R>> columns = group_columns<R>();
  const std::vector<ColumnOf<R>> figures{
      {{"problem"}, "problem", &R::problem},
      {{"variant", "taken"}, "takes", [](const R& row) { return plain(row.variants); }},
      {{"ms", "taken", true}, "seconds", [](const R& row) { return milliseconds(row.seconds); }},
      {{"spread", "taken", true},
       "spread",
       [](const R& row) {
         return row.row == nullptr ? absent("estimated from the times of several rows") : spread_of(*row.row);
       }},
      {{"variant", "fastest"}, "fastest", [](const R& row) { return plain(row.fastest->variant); }},
      {{"ms", "fastest", true}, "fastest_seconds", [](const R& row) { return milliseconds(row.fastest_seconds()); }},
      {{"spread", "fastest", true}, "fastest_spread", [](const R& row) { return spread_of(*row.fastest); }},
      {{"slower by", "", true}, "ratio", &R::slower_by},
  };
  columns.insert(columns.end(), figures.begin(), figures.end());
  return columns;
}

}  // namespace

std::string_view default_choice(const Problem& problem, Pass pass) { return best_variant(problem, pass).name; }

Table fastest_table(const Sweep& sweep) {
  Table table;
  table.name = "faster_na_fastest";
  table.title = "How often each variant is the fastest";
  table.caption = sweep.caption(sweep.groups());
  table.caption.emplace_back(
      "In % of the problems in which any of these variants has times. Self attention is left out: it is the baseline.");
  std::vector<FastestRow> rows;
  std::vector<FastestRecord> records;
  for (const Group& group : sweep.groups()) {
    rows.push_back(fastest_row(sweep, group));
    for (const char* kernel : kKernels) records.push_back(rows.back().kernels.at(kernel));
  }
  fill(table, fastest_columns(), rows);
  fill(table, fastest_record_columns(), records);
  return table;
}

std::vector<Table> choice_tables(const Sweep& sweep, const Choice& choice) {
  Table table;
  table.name = "faster_na_choice";
  table.title = "What a call that names no variant takes";
  table.caption = sweep.caption(sweep.groups());
  table.caption.push_back(fmt::format(
      "Such a call leaves the choice to best_variant(), here to that of the build that wrote this report, on a machine "
      "without a matrix unit. The choice is held against the fastest variant measured, ours (best), and counts as the "
      "fastest if it takes at most {:.0f} % "
      "longer. Medians of few samples scatter by more than that now and then.",
      (kAllowed - 1) * 100));
  std::vector<ChoiceRow> rows;
  for (const Group& group : sweep.groups()) rows.push_back(choice_row(sweep, group, choice));
  fill(table, choice_columns(), rows);

  std::vector<Taken> slower;
  for (const ChoiceRow& row : rows) {
    std::ranges::copy_if(row.measured, std::back_inserter(slower), &Taken::is_slower);
  }
  if (slower.empty()) return {table};
  std::ranges::stable_sort(slower, std::greater<>(), &Taken::ratio);
  Table details;
  details.name = "faster_na_choice_slower";
  details.title = fmt::format("Where what such a call takes is slower beyond {:.0f} %", (kAllowed - 1) * 100);
  details.caption = sweep.caption(sweep.groups());
  details.caption.emplace_back("The worst first. The CSV file has the problems' ids, for nalab run --filter.");
  details.is_detail = true;
  fill(details, slower_columns(), slower);
  return {table, details};
}

}  // namespace nalab::report
