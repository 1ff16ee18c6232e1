#include "report/papers/lookup.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "core/problem.h"
#include "report/caption.h"
#include "report/format.h"
#include "store/samples.h"

namespace nalab::report {

std::set<std::string> configs_of(const store::Results& results, const std::string& table) {
  std::set<std::string> names;
  for (const store::StoredConfig& config : results.configs) {
    if (config.table == table) names.insert(config.name);
  }
  return names;
}

bool Case::is_of(const store::Row& row) const {
  const std::vector<int64_t> none(layout.size(), 1);
  return row.batch == 1 && row.extra_tokens == 0 && row.relative_bias == 0 && row.heads_kv == row.heads &&
         row.head_dim == head_dim && row.head_dim_v == head_dim && parse_extents("layout", row.layout) == layout &&
         parse_extents("window", row.window) == window && parse_extents("stride", row.stride) == stride &&
         parse_extents("dilation", row.dilation) == (dilation.empty() ? none : dilation) &&
         is_everywhere(0, "causal", row.causal);
}

double Measured::seconds() const { return store::median(fused->samples); }

double Measured::dense_seconds() const { return store::median(dense->samples); }

std::optional<double> Measured::speedup_without_packing() const {
  const double left = seconds() - fused->packing_seconds;
  const double dense_left = dense_seconds() - dense->packing_seconds;
  const bool timed = fused->packing_seconds > 0 && dense->packing_seconds > 0;
  return timed && left > 0 && dense_left > 0 ? std::optional(dense_left / left) : std::nullopt;
}

double Measured::simulated() const {
  return static_cast<double>(dense->executed_flops) / static_cast<double>(fused->executed_flops);
}

double Measured::flop_wise() const {
  return static_cast<double>(dense->useful_flops) / static_cast<double>(fused->useful_flops);
}

Lookup::Lookup(const store::Results& results, const std::string& table, const Subject& subject)
    : results_(results), subject_(subject), configs_(configs_of(results, table)) {}

/// The row of self attention that a row is compared with: of the same configuration if there are several.
const store::Row* Lookup::find_dense(const store::Row& row) const {
  const store::Row* found = nullptr;
  for (const store::Row& other : results_.rows) {
    if (other.problem != row.baseline || other.variant != subject_.dense || other.pass != row.pass) continue;
    if (found == nullptr || (other.config == row.config && found->config != row.config)) found = &other;
  }
  return found;
}

Measured Lookup::find(const Case& wanted, const std::string& type) const {
  const auto rank = [&](const Measured& m) {
    const bool reliable = m && m.few_samples().empty();
    return std::tuple(is_preferred(*m.fused), m.why_not.empty(), reliable, m.fused->heads);
  };
  Measured best;
  for (const store::Row& row : results_.rows) {
    if (row.variant != subject_.fused || row.pass != "forward" || row.type != type || !wanted.is_of(row)) continue;
    Measured found{&row, find_dense(row), {}};
    if (!is_measured(row)) {
      found.why_not = why_not_measured(row);
    } else if (found.dense == nullptr) {
      found.why_not = "self attention was not asked for, or the run ended before it";
    } else if (!is_measured(*found.dense)) {
      found.why_not = why_not_measured(*found.dense);
    }
    if (best.fused == nullptr || rank(found) > rank(best)) best = found;
  }
  if (best.fused == nullptr)
    best.why_not = "not in the results: no configuration asked for it, or the run ended before it";
  return best;
}

std::vector<std::string> Lookup::types() const {
  std::vector<std::string> types;
  for (const char* type : {"f32", "bf16", "f16"}) {
    const bool found = std::any_of(results_.rows.begin(), results_.rows.end(), [&](const store::Row& row) {
      return row.type == type && row.variant == subject_.fused && row.pass == "forward" && is_preferred(row);
    });
    if (found) types.emplace_back(type);
  }
  return types;
}

std::vector<std::string> caption_of(const store::Results& results, const std::vector<const store::Row*>& rows) {
  if (rows.empty()) return {"None of this was measured."};
  return machine_caption(results.environment, {rows.begin(), rows.end()});
}

std::vector<std::string> plot_caption_of(const store::Results& results, const std::vector<Measured>& shown) {
  std::vector<const store::Row*> rows;
  std::size_t few = 0;
  for (const Measured& measured : shown) {
    rows.insert(rows.end(), {measured.fused, measured.dense});
    if (!measured.few_samples().empty()) ++few;
  }
  std::vector<std::string> caption = caption_of(results, rows);
  if (few > 0) caption.push_back(few_samples_of(few, shown.size()) + ".");
  return caption;
}

std::vector<Lookup> lookups(const store::Results& results, const std::string& table) {
  std::vector<Lookup> list;
  for (const Subject& subject : kSubjects) {
    // Without a GPU rows may have been asked for, and refused.
    if (subject.device == Device::cuda && results.environment.gpu.empty()) continue;
    Lookup lookup(results, table, subject);
    if (!lookup.types().empty()) list.push_back(std::move(lookup));
  }
  return list;
}

std::string speedup_text(double speedup) { return fmt::format("{:.2f}x", speedup); }

Value milliseconds_value(double seconds) { return {significant(seconds * 1e3, 4), exact(seconds)}; }

Value speedup_value(double speedup, const std::string& note) { return {speedup_text(speedup), exact(speedup), note}; }

}  // namespace nalab::report
