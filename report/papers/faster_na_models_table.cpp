// Faster Neighborhood Attention (2403.04690), tables 5 to 8: the published figures beside ours.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "report/claim.h"
#include "report/format.h"
#include "report/papers/faster_na_models.h"
#include "store/samples.h"

namespace nalab::report {
namespace {

using R = ModelTimes;

constexpr Pair kPairs[] = {{"fused", "naive"}, {"fused", "gemm"}};
constexpr Pair kBestPair{kBest, "naive"};

/// What a column of the table calls a pair: "fused over naive".
std::string text_of(const Pair& pair) { return fmt::format("{} over {}", pair.faster, pair.slower); }

/// Images per second, or hours.
Value figure(const ModelTable& table, double value) {
  return {table.is_training || value < 100 ? significant(value, 3) : fmt::format("{:.0f}", value), exact(value)};
}

/// value(), or n/a with the reason.
template <class F>
Value if_there(const std::string& why_not, const F& value) {
  return why_not.empty() ? value() : absent(why_not);
}

Value own_figure(const R& row, const std::string& variant) {
  return if_there(row.why_not(variant), [&] {
    Value value = figure(*row.table, row.table->is_training ? row.hours(variant) : row.images_per_second(variant));
    value.footnote = row.rows.at(variant)->reason;
    return value;
  });
}

Value own_improvement(const R& row, const Pair& pair) {
  return if_there(row.why_not(pair), [&] {
    const double improvement = row.improvement(pair);
    return Value{percent(improvement), exact(improvement), row.few_samples(pair)};
  });
}

Value share(const R& row, const std::string& variant) {
  return if_there(row.why_not(variant), [&] {
    const double share = row.attention_share(variant);
    return Value{fmt::format("{:.0f}", share * 100), exact(share)};
  });
}

Value verdict(const R& row, const Pair& pair) {
  return if_there(row.why_not(pair), [&] {
    Claim claim;
    claim.published = row.published_improvement(pair);
    claim.ours = row.improvement(pair);
    claim.why_not = row.few_samples(pair);
    return Value{text_of(judge(claim)), text_of(judge(claim)), claim.why_not};
  });
}

Value batch_of(const R& row) {
  return row.rows.empty() ? absent(row.why_not("")) : plain(exact(row.rows.begin()->second->batch));
}

/// The variants that have a column, kBest if it is there.
std::vector<std::string> variants_of(const std::vector<R>& models) {
  std::vector<std::string> variants(kModelVariants.begin(), kModelVariants.end());
  if (std::ranges::any_of(models, [](const R& model) { return model.rows.contains(kBest); })) {
    variants.emplace_back(kBest);
  }
  return variants;
}

/// A row for each model.
std::vector<ColumnOf<R>> shown_columns(const ModelTable& table, const std::vector<std::string>& variants) {
  const char* unit = table.is_training ? "hours" : "images/s";
  const std::string theirs = fmt::format("{}, A100, {}", unit, table.published_type);
  const std::string ours = fmt::format("{} here, {}", unit, table.type), attention = "attention, % of the time";
  std::vector<ColumnOf<R>> columns{{{"model"}, "", [](const R& row) { return plain(row.model); }}};
  const auto add = [&](const std::string& heading, const std::string& group, auto value) {
    columns.push_back({{heading, group, true}, "", value});
  };
  for (const char* variant : kModelVariants) {
    add(variant, theirs, [variant](const R& row) { return figure(*row.table, row.published_figure(variant)); });
  }
  add("batch", ours, batch_of);
  for (const std::string& variant : variants) {
    add(kernel_text(variant), ours, [variant](const R& row) { return own_figure(row, variant); });
  }
  for (const Pair& pair : kPairs) {
    add("A100", text_of(pair), [pair](const R& row) { return plain(percent(row.published_improvement(pair))); });
    add("here", text_of(pair), [pair](const R& row) { return own_improvement(row, pair); });
    columns.push_back({{"verdict", text_of(pair)}, "", [pair](const R& row) { return verdict(row, pair); }});
  }
  if (variants.size() > kModelVariants.size()) {
    add("here", text_of(kBestPair), [](const R& row) { return own_improvement(row, kBestPair); });
  }
  for (const std::string& variant : variants) {
    add(kernel_text(variant), attention, [variant](const R& row) { return share(row, variant); });
  }
  return columns;
}

/// A variant of a model.
struct Record {
  const R* model;
  std::string variant;

  const store::ModelRow& row() const { return *model->rows.at(variant); }
  bool is_published() const { return std::ranges::find(kModelVariants, variant) != kModelVariants.end(); }
  Pair over_naive() const { return {variant.c_str(), "naive"}; }
};

/// A line for each variant of a model.
std::vector<ColumnOf<Record>> record_columns(const ModelTable& table) {
  const std::string figure_name = table.is_training ? "hours" : "images_per_second";
  return {
      {{}, "model", [](const Record& record) { return plain(record.model->model); }},
      {{}, "variant", [](const Record& record) { return plain(record.variant); }},
      {{}, "pass", [](const Record& record) { return plain(record.model->table->pass); }},
      {{}, "type", [](const Record& record) { return plain(record.model->table->type); }},
      {{}, "batch", [](const Record& record) { return plain(exact(record.row().batch)); }},
      {{}, "samples", [](const Record& record) { return plain(exact(std::ssize(record.row().samples))); }},
      {{},
       "seconds",
       [](const Record& record) {
         return if_there(record.model->why_not(record.variant),
                         [&] { return plain(exact(record.model->seconds(record.variant))); });
       }},
      {{}, "attention_share", [](const Record& record) { return share(*record.model, record.variant); }},
      {{}, figure_name, [](const Record& record) { return own_figure(*record.model, record.variant); }},
      {{},
       "improvement_over_naive",
       [](const Record& record) { return own_improvement(*record.model, record.over_naive()); }},
      {{},
       "published_" + figure_name,
       [](const Record& record) {
         return record.is_published() ? plain(exact(record.model->published_figure(record.variant))) : Value{};
       }},
      {{},
       "published_improvement_over_naive",
       [](const Record& record) {
         if (!record.is_published()) return Value{};
         return plain(exact(record.model->published_improvement(record.over_naive())));
       }},
      {{}, "peak_memory_bytes", [](const Record& record) { return plain(exact(record.row().peak_memory_bytes)); }},
      {{}, "why_not", [](const Record& record) { return plain(record.model->why_not(record.variant)); }},
  };
}

}  // namespace

Table models_table(const store::Results& results, const std::vector<ModelTimes>& models) {
  const ModelTable& about = *models.front().table;
  const std::vector<std::string> variants = variants_of(models);
  Table table;
  table.name = about.name();
  table.title = fmt::format("{} (table {})", about.title, about.number);
  table.caption = caption_of(results, models);
  table.caption.emplace_back(about.unit);
  table.caption.emplace_back(
      "Improvement: run time of the slower variant over that of the faster one, minus 1; verdicts by the rule of the "
      "claims. A variant computes attention in all layers; fused (tiles) is the paper's fused neighborhood attention. "
      "Attention's share was measured within the same calls.");
  if (variants.size() > kModelVariants.size()) {
    table.caption.push_back(fmt::format("Ours (best) is the fastest of {} among those that were measured.",
                                        enumerate(std::vector<std::string>(std::begin(kKernels), std::end(kKernels)))));
  }
  std::vector<Record> records;
  for (const R& model : models) {
    for (const char* kernel : kKernels) {
      if (model.rows.contains(kernel)) records.push_back({&model, kernel});
    }
  }
  fill(table, shown_columns(about, variants), models);
  fill(table, record_columns(about), records);
  return table;
}

}  // namespace nalab::report
