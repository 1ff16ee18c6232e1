#include "report/figures.h"

#include <fmt/format.h>

#include <algorithm>

#include "report/statistics.h"

namespace nalab::report {

bool is_measured(const store::Row& row) { return row.status == "done" && !row.samples.empty(); }

std::string why_not_measured(const store::Row& row) {
  const std::string reason = row.reason.empty() ? "no reason was stored" : row.reason;
  return fmt::format("{} {}: {}", row.variant, row.status == "failed" ? "gave a wrong result" : "was not run", reason);
}

double peak_of(const store::Environment& environment, const store::Row& row) {
  if (row.isa != environment.isa || row.threads != environment.threads) return 0;
  const double fma = environment.fma_f32_all_threads;
  // Only with this instruction set can a row use dot products of bf16; it may still be faster without them.
  const bool dots = row.type == "bf16" && row.isa == "avx512bf16";
  return dots ? std::max(fma, environment.dot_bf16_all_threads) : fma;
}

Figures figures_of(const store::Environment& environment, const store::Row& row) {
  Figures figures;
  figures.median = median(row.samples);
  if (row.samples.size() > 1) figures.spread = spread(row.samples);
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
