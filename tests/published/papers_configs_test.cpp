// The configurations of the published tables ask for all that the report shows beside them.
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "experiments/config/config.h"
#include "experiments/plan/estimate.h"
#include "experiments/plan/plan.h"
#include "report/figures.h"
#include "report/papers/generalized_na.h"
#include "report/papers/published.h"
#include "tests/source_folder.h"

namespace nalab {
namespace {

using config::Form;
using Extents = std::vector<int64_t>;

const std::string kSource = source_folder();

config::Config shipped(const std::string& name, Form form) {
  return config::load(kSource + "/configs/" + name + ".yaml", form);
}

bool asks_for(const config::Config& config, const report::Case& wanted, int64_t heads) {
  const Extents none(wanted.layout.size(), 1);
  return std::any_of(config.problems.begin(), config.problems.end(), [&](const config::ProblemSettings& p) {
    return p.layout == wanted.layout && p.window == wanted.window && p.stride == wanted.stride &&
           p.dilation == (wanted.dilation.empty() ? none : wanted.dilation) && p.heads == heads &&
           p.head_dim == wanted.head_dim;
  });
}

TEST(PapersConfigs, PublishedFiguresAreCompiledInAsTheyStand) {
  for (const char* name : {"cosmos_predict2", "fna2024", "gna2025", "natten_docs"}) {
    const YAML::Node file = YAML::LoadFile(kSource + "/data/published/" + name + ".yaml");
    EXPECT_EQ(YAML::Dump(report::published(name)), YAML::Dump(file));
  }
}

TEST(PapersConfigs, OperatorLevelAsksForEveryPublishedStride) {
  const config::Config full = shipped("gna_op_level", Form::full);
  EXPECT_EQ(full.title.table, report::kGnaOpLevel);
  const std::vector<report::GnaCase> cases = report::gna_cases();
  EXPECT_EQ(cases.size(), 23u);
  EXPECT_EQ(full.problems.size(), cases.size());
  for (const report::GnaCase& c : cases) {
    const auto heads = report::published("gna2025")["use_cases"][c.model]["heads"].as<int64_t>();
    EXPECT_TRUE(asks_for(full, c.problem, heads)) << c.model << ' ' << extents_text(c.problem.stride);
  }
  const config::Config quick = shipped("gna_op_level", Form::quick);
  for (const auto& entry : report::published("natten_docs")["chart_cases"]) {
    const YAML::Node& charted = entry.second;
    const auto layout = charted["layout"].as<Extents>(), window = charted["window"].as<Extents>();
    EXPECT_TRUE(asks_for(quick, {layout, window, charted["gna_stride"].as<Extents>()}, 1)) << entry.first;
    EXPECT_TRUE(asks_for(quick, {layout, window, Extents(layout.size(), 1)}, 1)) << entry.first;
  }
}

TEST(PapersConfigs, ProfilerAsksForEverySample) {
  for (const Form form : {Form::full, Form::quick}) {
    const config::Config config = shipped("natten_profiler", form);
    EXPECT_EQ(config.title.table, "natten_profiler");
    for (const YAML::Node& sample : report::published("natten_docs")["profiler_samples"]) {
      if (sample["window"].IsNull()) continue;
      const report::Case wanted{sample["layout"].as<Extents>(),
                                sample["window"].as<Extents>(),
                                sample["stride"].as<Extents>(),
                                {},
                                sample["head_dim"].as<int64_t>()};
      const int64_t heads = form == Form::full ? sample["heads"].as<int64_t>() : 1;
      EXPECT_TRUE(asks_for(config, wanted, heads)) << sample;
    }
  }
}

TEST(PapersConfigs, CosmosPredict2AsksForEveryPattern) {
  const YAML::Node& paper = report::published("cosmos_predict2");
  const auto expect_frames = [&](Form form, int64_t frames, int64_t heads) {
    const config::Config config = shipped("cosmos_predict2", form);
    EXPECT_EQ(config.title.table, "cosmos_predict2");
    for (const auto& entry : paper["patterns"]) {
      const YAML::Node& pattern = entry.second;
      Extents layout = paper["layout_hw"].as<Extents>(), window = pattern["window"].as<Extents>();
      layout.insert(layout.begin(), frames);
      if (window[0] == -1) window[0] = frames;
      const report::Case wanted{layout, window, pattern["stride"].as<Extents>(), pattern["dilation"].as<Extents>()};
      EXPECT_TRUE(asks_for(config, wanted, heads)) << entry.first << ' ' << frames;
    }
  };
  expect_frames(Form::full, 16, 4);
  expect_frames(Form::full, 24, 4);
  expect_frames(Form::quick, 8, 1);
}

TEST(PapersConfigs, SweepsHaveAboutThePublishedCounts) {
  for (const char* rank : {"1", "2", "3"}) {
    SCOPED_TRACE(rank);
    const config::Config full = shipped(std::string("fna_") + rank + "d", Form::full);
    const auto count = report::published("fna2024")["problem_counts"][std::string(rank) + "-D"].as<double>();
    EXPECT_NEAR(static_cast<double>(full.problems.size()) / count, 1, 0.05);
    EXPECT_NE(full.title.about.find(std::to_string(full.problems.size()) + " problems"), std::string::npos);
    EXPECT_EQ(full.title.table, "faster_na");
    std::set<int64_t> head_dims, batches, heads;
    int whole = 0;
    for (const config::ProblemSettings& p : full.problems) {
      head_dims.insert(p.head_dim);
      batches.insert(p.batch);
      heads.insert(p.heads);
      whole += p.window == p.layout ? 1 : 0;
    }
    EXPECT_EQ(head_dims, (std::set<int64_t>{32, 64, 128}));
    EXPECT_GT(batches.size(), 1u);
    EXPECT_GT(heads.size(), 1u);
    EXPECT_GT(whole, 0);
    EXPECT_TRUE(std::any_of(full.problems.begin(), full.problems.end(), [](const config::ProblemSettings& p) {
      return *std::max_element(p.window.begin(), p.window.end()) == 3;
    }));
  }
}

TEST(PapersConfigs, QuickFormsTakeEnoughSamplesForTheirClaims) {
  for (const char* name : {"gna_op_level", "cosmos_predict2", "fna_1d", "fna_2d", "fna_3d"}) {
    const config::Config quick = shipped(name, Form::quick);
    const config::Timing& timing = quick.settings.timing;
    const auto needed = static_cast<int64_t>(report::kFewestSamples);
    EXPECT_GE(timing.min_samples, needed) << name;
    EXPECT_GE(timing.max_samples, needed) << name;
    // No sample is taken once the earlier ones add up to max_seconds.
    const plan::RunPlan plan = plan::make_run_plan({quick}, "", {int64_t{1} << 40, 2});
    for (const plan::Group& group : plan.groups) {
      for (const plan::PlannedRow& row : group.rows) {
        const double call = plan::call_seconds(row, 2);
        EXPECT_LT(static_cast<double>(needed - 1) * call, timing.max_seconds) << row.id;
      }
    }
  }
}

TEST(PapersConfigs, SweepsHaveTheSameProblemsInEveryTypeAndPassOfTheQuickForm) {
  for (const char* rank : {"1", "2", "3"}) {
    SCOPED_TRACE(rank);
    const config::Config quick = shipped(std::string("fna_") + rank + "d", Form::quick);
    std::set<std::vector<const config::ProblemSettings*>> different;
    std::set<std::pair<ElementType, config::RowPass>> covered;
    for (const config::Run& run : quick.settings.runs) {
      const config::Selection selection = config::select(quick, run);
      EXPECT_GE(selection.problems.size(), 60u);
      different.insert(selection.problems);
      for (const ElementType type : selection.types) {
        for (const config::RowPass pass : selection.passes) covered.emplace(type, pass);
      }
    }
    EXPECT_EQ(different.size(), 1u);
    EXPECT_EQ(covered.size(), 5u);
  }
}

/// The labels of a configuration's models, in its order.
std::vector<std::string> labels_of(const config::Config& config) {
  std::vector<std::string> labels;
  for (const config::ModelSettings& model : config.models) labels.push_back(model.label);
  return labels;
}

std::vector<std::string> keys_of(const YAML::Node& table) {
  std::vector<std::string> keys;
  for (const auto& entry : table) keys.push_back(entry.first.as<std::string>());
  return keys;
}

TEST(PapersConfigs, ModelsAreThoseOfTheTables) {
  const YAML::Node paper = report::published("fna2024");
  const std::set<std::string> columns{"naive", "gemm", "fused"};
  for (const auto& [name, tables] :
       {std::pair{"fna_imagenet", std::set<std::string>{"table5_imagenet_fp16", "table6_imagenet_fp32"}},
        {"fna_stylenat", {"table7_stylenat_fp32"}},
        {"fna_training", {"table8_training_fp16_hours"}}}) {
    const config::Config full = shipped(name, Form::full), quick = shipped(name, Form::quick);
    for (const std::string& table : tables) EXPECT_EQ(labels_of(full), keys_of(paper[table])) << table;
    for (const config::Config& config : {full, quick}) {
      const std::set<std::string> variants(config.settings.variants.begin(), config.settings.variants.end());
      EXPECT_TRUE(std::ranges::includes(variants, columns)) << name;
    }
    EXPECT_TRUE(quick.settings.timing.budget_seconds) << name;
    for (const config::ModelSettings& model : full.models) {
      const bool is_training = std::string(name) == "fna_training";
      EXPECT_EQ(model.pass == config::ModelPass::training_step, is_training);
      EXPECT_EQ(model.relative_bias, !is_training);
      const YAML::Node batch = paper["table7_stylenat_fp32"][model.label];
      EXPECT_EQ(model.batch, batch ? batch["batch"].as<int64_t>() : 128) << model.label;
    }
  }
  EXPECT_EQ(shipped("fna_imagenet", Form::full).settings.types, (std::vector{ElementType::bf16, ElementType::f32}));
}

}  // namespace
}  // namespace nalab
