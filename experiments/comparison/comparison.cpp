#include "experiments/comparison/comparison.h"

#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "store/differences.h"

namespace nalab::comparison {

namespace {

constexpr const char* kNames[] = {"faster",    "slower",    "no difference told", "too few samples",
                                  "only in A", "only in B", "not timed",          "now failed"};

/// "refused in A: not enough memory"; empty for a row with times.
std::string why_not_timed(const store::TimedRow& row, const char* file) {
  return row.samples.empty() ? row.status + " in " + file + (row.reason.empty() ? "" : ": " + row.reason) : "";
}

RatioVerdict verdict_of(const Ratio& ratio) {
  if (!ratio.interval) return RatioVerdict::too_few;
  if (ratio.interval->high < 1) return RatioVerdict::faster;
  return ratio.interval->low > 1 ? RatioVerdict::slower : RatioVerdict::open;
}

Pair compare_rows(const store::TimedRow& a, const store::TimedRow& b) {
  Pair pair{&a, &b, RatioVerdict::not_timed, std::nullopt, why_not_timed(a, "A")};
  if (const std::string reason = why_not_timed(b, "B"); !reason.empty()) {
    pair.reason += (pair.reason.empty() ? "" : "; ") + reason;
  }
  if (b.status == "failed" && a.status != "failed") {
    pair.verdict = RatioVerdict::now_failed;
  } else if (pair.reason.empty()) {
    pair.ratio = ratio_of_medians(a.samples, b.samples);
    pair.verdict = verdict_of(*pair.ratio);
  }
  return pair;
}

Pair alone(const store::TimedRow& row, bool is_in_a) {
  if (is_in_a) return {&row, nullptr, RatioVerdict::only_in_a, std::nullopt, ""};
  return {nullptr, &row, RatioVerdict::only_in_b, std::nullopt, ""};
}

}  // namespace

const char* name(RatioVerdict verdict) { return kNames[static_cast<int>(verdict)]; }

std::vector<Pair> compare(const store::Results& a, const store::Results& b) {
  std::map<std::string, const store::TimedRow*> others;
  const std::vector<const store::TimedRow*> rows_of_a = timed_rows(a), rows_of_b = timed_rows(b);
  for (const store::TimedRow* row : rows_of_b) others.emplace(row->id, row);
  std::vector<Pair> pairs;
  std::set<std::string> shared;
  for (const store::TimedRow* row : rows_of_a) {
    const auto other = others.find(row->id);
    if (other != others.end()) shared.insert(row->id);
    pairs.push_back(other == others.end() ? alone(*row, true) : compare_rows(*row, *other->second));
  }
  if (shared.empty()) throw Error(a.path + " and " + b.path + " have no row in common");
  for (const store::TimedRow* row : rows_of_b) {
    if (!shared.contains(row->id)) pairs.push_back(alone(*row, false));
  }
  return pairs;
}

Summary summarize(const std::vector<Pair>& pairs) {
  Summary summary;
  summary.counts.resize(std::size(kNames));
  double logarithms = 0;
  for (const Pair& pair : pairs) {
    ++summary.counts[static_cast<std::size_t>(pair.verdict)];
    if (!pair.ratio) continue;
    ++summary.compared;
    logarithms += std::log(pair.ratio->value);
  }
  if (summary.compared > 0) summary.geometric_mean = std::exp(logarithms / static_cast<double>(summary.compared));
  return summary;
}

std::vector<std::string> warnings(const store::Results& a, const store::Results& b) {
  std::vector<std::string> sentences;
  for (const store::Difference& d : store::differences(a.environment, b.environment)) {
    sentences.push_back(d.what + " is '" + *d.first + "' in A and '" + *d.second + "' in B");
  }
  return sentences;
}

bool fails(const Pair& pair, double percent) {
  if (pair.verdict == RatioVerdict::now_failed) return true;
  return pair.interval() != nullptr && pair.interval()->low > 1 + percent / 100;
}

}  // namespace nalab::comparison
