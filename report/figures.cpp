#include "report/figures.h"

#include <fmt/format.h>

#include "report/format.h"
#include "store/rows.h"
#include "store/samples.h"

namespace nalab::report {

bool is_measured(const store::TimedRow& row) { return row.status == "done" && !row.samples.empty(); }

bool ran_on_gpu(const store::Environment& environment, const store::TimedRow& row) {
  return row.on_gpu() && !environment.gpu.empty();
}

std::string why_not_measured(const store::TimedRow& row) {
  const std::string reason = row.reason.empty() ? "no reason was stored" : row.reason;
  return fmt::format("{} {}: {}", row.variant, row.status == "failed" ? "gave a wrong result" : "was not run", reason);
}

std::string few_samples(const store::TimedRow& row, const store::TimedRow& baseline) {
  std::vector<std::string> few;
  for (const store::TimedRow* one : {&row, &baseline}) {
    if (one->samples.size() < kFewestSamples)
      few.push_back(fmt::format("{} has {}", one->variant, one->samples.size()));
  }
  if (&row == &baseline || few.empty()) return {};
  return fmt::format("fewer than {} samples: {}", kFewestSamples, enumerate(few));
}

std::string few_samples_of(std::size_t few, std::size_t all) {
  if (few == 0) return {};
  return fmt::format("{} of {} speedup{} {} fewer than {} samples of one of {} times", few, all, all == 1 ? "" : "s",
                     few == 1 ? "has" : "have", kFewestSamples, few == 1 ? "its" : "their");
}

double peak_of(const store::Environment& environment, const store::Row& row) {
  if (!row.on_gpu() && (row.isa != environment.isa || row.threads != environment.threads)) return 0;
  const auto rate_of = [&environment](const std::string& arithmetic) {
    const store::Peak* peak = store::find_peak(environment, arithmetic);
    return peak == nullptr ? 0 : peak->all_threads;
  };
  const double forward = rate_of(row.arithmetic);
  if (row.backward_arithmetic.empty() || row.backward_arithmetic == row.arithmetic) return forward;
  const double backward = rate_of(row.backward_arithmetic);
  if (forward == 0 || backward == 0) return 0;
  const Problem problem = store::problem_of(row);
  const auto forward_flops = static_cast<double>(problem.useful_flops(Pass::forward));
  const auto backward_flops = static_cast<double>(problem.useful_flops(Pass::backward));
  return (forward_flops + backward_flops) / (forward_flops / forward + backward_flops / backward);
}

std::string why_no_peak(const store::Row& row) {
  return row.on_gpu() ? "the peak of the GPU was not measured"
                      : "the peak was not measured with this instruction set and number of threads";
}

Figures figures_of(const store::Environment& environment, const store::Row& row) {
  Figures figures;
  figures.median = store::median(row.samples);
  if (row.samples.size() > 1) figures.spread = store::spread(row.samples);
  figures.rate = static_cast<double>(row.useful_flops) / figures.median;
  if (const double peak = peak_of(environment, row); peak > 0) figures.peak_share = figures.rate / peak;
  return figures;
}

RowIndex::RowIndex(const std::vector<store::Row>& rows, const std::string& preferred_config) {
  for (const store::Row& row : rows) {
    const store::Row*& kept = rows_[{row.problem, row.variant, row.pass}];
    if (kept == nullptr || (row.config == preferred_config && kept->config != preferred_config)) kept = &row;
    const bool is_self_attention = row.problem == row.baseline;
    const auto [found, is_new] = only_self_attention_.emplace(row.variant, is_self_attention);
    if (!is_new) found->second = found->second && is_self_attention;
  }
}

const store::Row* RowIndex::find(const std::string& problem, const std::string& variant,
                                 const std::string& pass) const {
  const auto found = rows_.find({problem, variant, pass});
  return found == rows_.end() ? nullptr : found->second;
}

const store::Row* RowIndex::counterpart(const store::Row& row, const std::string& variant) const {
  const store::Row* found = find(row.problem, variant, row.pass);
  if (found == nullptr && only_self_attention(variant)) found = find(row.baseline, variant, row.pass);
  return found;
}

bool RowIndex::only_self_attention(const std::string& variant) const {
  const auto found = only_self_attention_.find(variant);
  return found != only_self_attention_.end() && found->second;
}

}  // namespace nalab::report
