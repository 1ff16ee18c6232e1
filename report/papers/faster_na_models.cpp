// Faster Neighborhood Attention (2403.04690), tables 5 to 8: whole models. The rows behind them, plots and claims.
#include "report/papers/faster_na_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "report/caption.h"
#include "report/figures.h"
#include "report/modules.h"
#include "report/papers/published.h"
#include "store/samples.h"

namespace nalab::report {

using store::ModelRow;

namespace {

/// ImageNet-1K's images for training, and the epochs of table 8.
constexpr double kImages = 1'281'167, kEpochs = 300;

/// What the paper calls "FFHQ-256" is StyleNAT-256.
std::string model_of(const std::string& published_name) {
  return published_name.starts_with("FFHQ") ? "StyleNAT" + published_name.substr(4) : published_name;
}

/// The side of the images that a published model is for.
int64_t side_of(const std::string& model) {
  for (const int64_t side : {256, 384, 1024}) {
    if (model.ends_with("-" + std::to_string(side))) return side;
  }
  return 224;
}

/// The rows of a model by batch and variant.
using Batches = std::map<int64_t, std::map<std::string, const ModelRow*>>;

std::map<std::string, const ModelRow*> chosen(const Batches& batches) {
  if (batches.empty()) return {};
  const auto rank = [](const Batches::value_type& batch) {
    const auto measured = std::ranges::count_if(batch.second, [](const auto& row) { return is_measured(*row.second); });
    return std::pair(measured, batch.first);
  };
  return std::ranges::max_element(batches, {}, rank)->second;
}

/// The fastest of kKernels that has times; null if none has, or if the paper has all that were asked for.
const ModelRow* best_of(const std::map<std::string, const ModelRow*>& rows) {
  const ModelRow* best = nullptr;
  bool is_ours = false;
  for (const char* kernel : kKernels) {
    const auto row = rows.find(kernel);
    if (row == rows.end()) continue;
    is_ours = is_ours || std::ranges::find(kModelVariants, row->first) == kModelVariants.end();
    if (!is_measured(*row->second)) continue;
    if (best == nullptr || store::median(row->second->samples) < store::median(best->samples)) best = row->second;
  }
  return is_ours ? best : nullptr;
}

Plot improvement_plot(const store::Results& results, const std::vector<ModelTimes>& models) {
  const ModelTable& table = *models.front().table;
  Plot plot;
  plot.name = table.name() + "_improvement";
  plot.title = fmt::format("Table {}: improvement of models by fused attention", table.number);
  plot.caption = caption_of(results, models);
  plot.caption.push_back(fmt::format("{}, after table {} of Faster Neighborhood Attention (A100, {}); here {}.",
                                     table.title, table.number, table.published_type, table.type));
  plot.x = {"model", false};
  plot.y = {"improvement, %", false};
  for (const ModelTimes& model : models) plot.categories.push_back(model.model);
  std::size_t few = 0, all = 0;
  for (const char* slower : {"naive", "gemm"}) {
    const Pair pair{"fused", slower};
    Series theirs{fmt::format("over {}, published (A100)", slower), Role::published, Mark::bars, {}};
    Series ours{fmt::format("over {}, here", slower), Role::ours, Mark::bars, {}};
    for (std::size_t i = 0; i < models.size(); ++i) {
      const auto x = static_cast<double>(i);
      theirs.points.push_back({x, models[i].published_improvement(pair) * 100});
      if (!models[i].why_not(pair).empty()) continue;
      ours.points.push_back({x, models[i].improvement(pair) * 100});
      ++all;
      if (!models[i].few_samples(pair).empty()) ++few;
    }
    plot.series.push_back(std::move(theirs));
    plot.series.push_back(std::move(ours));
  }
  if (few > 0) plot.caption.push_back(few_samples_of(few, all) + ".");
  return plot;
}

/// How much of the time attention is, of the models that were measured.
Plot share_plot(const store::Results& results, const std::vector<ModelTimes>& models) {
  const ModelTable& table = *models.front().table;
  Plot plot;
  plot.name = table.name() + "_attention";
  plot.title = fmt::format("Table {}: attention's share of the time", table.number);
  plot.caption = caption_of(results, models);
  plot.caption.push_back(
      fmt::format("{}, {}; measured within the same calls as the times of the whole models.", table.title, table.type));
  plot.x = {"model", false};
  plot.y = {"attention, % of the time", false};
  std::vector<Series> series;
  for (const char* variant : {"naive", "gemm", "fused", kBest}) {
    series.push_back({kernel_text(variant), Role::ours, Mark::bars, {}});
  }
  for (const ModelTimes& model : models) {
    const auto x = static_cast<double>(plot.categories.size());
    bool is_shown = false;
    for (std::size_t i = 0; i < series.size(); ++i) {
      const char* variant = i < kModelVariants.size() ? kModelVariants[i] : kBest;
      if (!model.why_not(variant).empty()) continue;
      series[i].points.push_back({x, model.attention_share(variant) * 100});
      is_shown = true;
    }
    if (is_shown) plot.categories.push_back(model.model);
  }
  for (Series& one : series) {
    if (!one.points.empty()) plot.series.push_back(std::move(one));
  }
  return plot;
}

/// "Up to" claims: the greatest improvement of fused over naive in some tables, of the reliable ones if there are any.
Claim claim(const store::Results& results, const std::string& what, const char* key,
            const std::vector<const ModelTable*>& tables) {
  const Pair pair{"fused", "naive"};
  Claim claim;
  claim.statement = fmt::format("{} of a whole model is faster with fused than with naive attention.", what);
  claim.source = "Faster NA (arXiv:2403.04690), abstract";
  claim.published = published("fna2024")["abstract"][key].as<double>() / 100;
  claim.published_text = fmt::format("up to {} (A100)", percent(claim.published));
  claim.why_not = "the results have no such model";
  std::size_t count = 0;
  std::string best;
  for (const ModelTable* table : tables) {
    for (const ModelTimes& model : model_times(results, *table)) {
      if (model.rows.empty()) continue;
      if (claim.table.empty()) claim.table = table->name();
      if (const std::string why = model.why_not(pair); !why.empty()) {
        if (count == 0) claim.why_not = fmt::format("{}: {}", model.model, why);
        continue;
      }
      ++count;
      const std::pair now(model.few_samples(pair).empty(), model.improvement(pair));
      if (claim.ours && std::pair(claim.why_not.empty(), *claim.ours) >= now) continue;
      claim.ours = now.second;
      claim.why_not = model.few_samples(pair);
      claim.table = table->name();
      best = fmt::format("{}, {}", model.model, table->type);
    }
  }
  if (claim.ours) {
    claim.ours_text = fmt::format("up to {} ({}), of {} measured", percent(*claim.ours), best, count);
  }
  return claim;
}

}  // namespace

std::span<const ModelTable> model_tables() {
  static constexpr ModelTable list[] = {
      {5, "table5_imagenet_fp16", "ImageNet throughput, half precision", "forward", "bf16", "fp16", true, false,
       "Images per second; the paper's with a batch of 128."},
      {6, "table6_imagenet_fp32", "ImageNet throughput, full precision", "forward", "f32", "fp32", true, false,
       "Images per second; the paper does not say with which batch."},
      {7, "table7_stylenat_fp32", "StyleNAT throughput, full precision", "forward", "f32", "fp32", true, false,
       "Images per second; the paper's with a batch of 64, of 8 for images of 1024 x 1024."},
      {8, "table8_training_fp16_hours", "Training time on ImageNet, half precision", "training_step", "bf16", "fp16",
       false, true,
       "Hours for 300 epochs of ImageNet, without relative positional biases. Ours are scaled from the measured "
       "time of a step (forward, backward and AdamW): 1281167 images / batch x seconds x 300; reading images and "
       "evaluation are not in it. The paper's are estimates too. It does not say of how many GPUs: 26.5 hours of "
       "NAT-T are 4029 images per second, more than one A100 infers (table 5)."},
  };
  return list;
}

std::string ModelTimes::why_not(const std::string& variant) const {
  if (rows.empty()) return "not in the results: no configuration asked for it, or the run ended before it";
  const auto row = rows.find(variant);
  if (row == rows.end() && variant == kBest) return "only the paper's variants were asked for, or none has times";
  if (row == rows.end()) return fmt::format("{} was not asked for, or the run ended before it", variant);
  return is_measured(*row->second) ? "" : why_not_measured(*row->second);
}

std::string ModelTimes::why_not(const Pair& pair) const {
  const std::string why = why_not(pair.faster);
  return why.empty() ? why_not(pair.slower) : why;
}

double ModelTimes::seconds(const std::string& variant) const { return store::median(rows.at(variant)->samples); }

double ModelTimes::attention_share(const std::string& variant) const {
  return rows.at(variant)->attention_seconds / seconds(variant);
}

double ModelTimes::images_per_second(const std::string& variant) const {
  return static_cast<double>(rows.at(variant)->batch) / seconds(variant);
}

double ModelTimes::hours(const std::string& variant) const {
  return kEpochs * kImages / images_per_second(variant) / 3600;
}

double ModelTimes::improvement(const Pair& pair) const { return seconds(pair.slower) / seconds(pair.faster) - 1; }

std::string ModelTimes::few_samples(const Pair& pair) const {
  return report::few_samples(*rows.at(pair.faster), *rows.at(pair.slower));
}

double ModelTimes::published_figure(const std::string& variant) const {
  return published[static_cast<std::size_t>(std::ranges::find(kModelVariants, variant) - kModelVariants.begin())];
}

double ModelTimes::published_improvement(const Pair& pair) const {
  const double faster = published_figure(pair.faster), slower = published_figure(pair.slower);
  return (table->is_training ? slower / faster : faster / slower) - 1;
}

std::vector<ModelTimes> model_times(const store::Results& results, const ModelTable& table) {
  const std::set<std::string> configs = configs_of(results, kFasterNaModels);
  std::vector<ModelTimes> models;
  for (const auto& entry : report::published("fna2024")[table.key]) {
    ModelTimes times{&table, model_of(entry.first.as<std::string>())};
    const YAML::Node figures = entry.second.IsMap() ? entry.second["throughput"] : entry.second;
    times.published = figures.as<std::array<double, 3>>();
    const int64_t side = side_of(times.model);
    Batches batches;
    // A row without a size is of a model that could not be made: it says why.
    for (const ModelRow& row : results.models) {
      const bool is_of = configs.contains(row.config) && row.model == times.model && row.pass == table.pass &&
                         row.type == table.type && (row.relative_bias != 0) == table.relative_bias &&
                         ((row.height == side && row.width == side) || row.height == 0);
      if (!is_of) continue;
      const ModelRow*& kept = batches[row.batch][row.variant];
      if (kept == nullptr || (kept->height == 0 && row.height != 0)) kept = &row;
    }
    times.rows = chosen(batches);
    if (const ModelRow* best = best_of(times.rows)) times.rows.emplace(kBest, best);
    models.push_back(std::move(times));
  }
  return models;
}

bool has_rows(const std::vector<ModelTimes>& models) {
  return std::ranges::any_of(models, [](const ModelTimes& model) { return !model.rows.empty(); });
}

std::vector<std::string> caption_of(const store::Results& results, const std::vector<ModelTimes>& models) {
  std::vector<const store::TimedRow*> rows;
  for (const ModelTimes& model : models) {
    for (const auto& [variant, row] : model.rows) {
      if (variant != kBest) rows.push_back(row);
    }
  }
  return machine_caption(results.environment, rows);
}

std::vector<Section> faster_na_model_sections(const store::Results& results, const Options&) {
  Section section;
  std::vector<std::string> numbers;
  for (const ModelTable& table : model_tables()) {
    const std::vector<ModelTimes> models = model_times(results, table);
    if (!has_rows(models)) continue;
    numbers.push_back(std::to_string(table.number));
    section.plots.push_back(improvement_plot(results, models));
    section.plots.push_back(share_plot(results, models));
    section.tables.push_back(models_table(results, models));
  }
  if (section.tables.empty()) return {};
  section.name = kFasterNaModels;
  section.title = "Faster Neighborhood Attention: whole models";
  section.about = {
      "NAT, DiNAT, DiNATs and StyleNAT as whole networks. All but attention is the same code and the same memory in "
      "all columns, so that they differ in attention alone; its share of the time says how much of a model that is."};
  section.sources = {fmt::format("{}, table{} {}; {}", published("fna2024")["source"].as<std::string>(),
                                 numbers.size() == 1 ? "" : "s", enumerate(numbers),
                                 published("fna2024")["device"].as<std::string>())};
  const std::span<const ModelTable> tables = model_tables();
  section.claims = {
      claim(results, "Inference", "inference_model_level_percent_up_to", {&tables[0], &tables[1], &tables[2]}),
      claim(results, "Training", "training_model_level_percent_up_to", {&tables[3]})};
  return {section};
}

}  // namespace nalab::report
