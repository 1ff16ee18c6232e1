#include "store/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/store/sample_rows.h"
#include "tests/store/temporary_folder.h"

namespace nalab::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::vector<StoredConfig> kConfigs{{"first", "name: first\n", "name: first\n", "generic", "dense"},
                                         {"second", "name: second\n", "name: second\n", "generic", "dense"}};

/// A row at a place in the plan, with tensors of its own.
FinishedRow at(int64_t position, const std::string& config = "first") {
  const std::string id = "row" + std::to_string(position);
  Row r = row(id, {0.5 + static_cast<double>(position), 2.0});
  r.position = position;
  r.config = config;
  return {r, {{"q", {2}, {static_cast<float>(position), 1}}}};
}

ModelRow model_at(int64_t position) {
  ModelRow m = model("model" + std::to_string(position), {static_cast<double>(position)});
  m.position = position;
  m.config = "first";
  return m;
}

class Merge : public testing::Test {
 protected:
  /// A file of those rows, a shard where index is positive.
  std::string write(const std::string& name, std::vector<int64_t> positions, int64_t index = 0, int64_t count = 3) {
    std::optional<Shard> shard;
    if (index > 0) shard = Shard{index, count, filter_, std::ssize(positions) + unfinished_};
    if (index == 1) shard->rows += 2;
    if (index > 0) shard->rows += 1;
    std::vector<FinishedRow> rows;
    for (const int64_t position : positions) rows.push_back(at(position, position < 3 ? "first" : "second"));
    const std::string path = folder_.file(name);
    const auto sink = create_results(path, environment_, configs_, shard);
    if (index == 1) sink->append_simulations(std::vector{simulation("a"), simulation("b")});
    sink->append(rows);
    if (index > 0) sink->append_models(std::vector{model_at(100 - index)});
    return path;
  }

  /// What the merge of those files is refused for, with no trace left of it.
  std::string refused(const std::vector<std::string>& paths, const MergeOptions& options = {}) {
    const auto before = folder_.count();
    const std::string sentence = refusal([&] { merge_results(paths, out_, options); });
    EXPECT_EQ(folder_.count(), before) << "something was left behind";
    return sentence;
  }

  TemporaryFolder folder_;
  std::string out_ = folder_.file("out.h5");
  Environment environment_ = environment();
  std::vector<StoredConfig> configs_ = kConfigs;
  std::string filter_ = "f32";
  int64_t unfinished_ = 0;
};

std::vector<std::string> ids(const Results& results) {
  std::vector<std::string> list;
  for (const Row& r : results.rows) list.push_back(r.id);
  return list;
}

TEST_F(Merge, ShardsInAnyOrderGiveTheFileOfTheWholePlan) {
  const std::string second = write("b.h5", {1, 4}, 2);
  const std::string third = write("c.h5", {}, 3);
  environment_.started = "an hour earlier";
  const std::string first = write("a.h5", {0, 2, 3}, 1);
  const MergeSummary summary = merge_results({third, second, first}, out_, {});
  EXPECT_EQ(summary.rows, 8) << "with those of models";
  EXPECT_EQ(summary.simulations, 2);
  EXPECT_THAT(summary.warnings, IsEmpty());

  const Results merged = read_results(out_);
  EXPECT_FALSE(merged.shard);
  EXPECT_EQ(text_of(merged.environment), text_of(environment_)) << "that of the first shard";
  ASSERT_EQ(merged.configs.size(), 2u);
  EXPECT_EQ(merged.configs[0].text, kConfigs[0].text);
  EXPECT_EQ(merged.configs[1].resolved, kConfigs[1].resolved);
  EXPECT_THAT(ids(merged), ElementsAre("row0", "row1", "row2", "row3", "row4"));
  for (int64_t i = 0; i < 5; ++i) {
    Row expected = at(i, i < 3 ? "first" : "second").row;
    expected.first_sample = 2 * i;
    expected.sample_count = 2;
    EXPECT_EQ(text_of(merged.rows[i]), text_of(expected));
    EXPECT_EQ(merged.rows[i].samples, expected.samples);
    const auto tensors = read_tensors(out_, expected.id);
    ASSERT_EQ(tensors.size(), 1u);
    EXPECT_THAT(tensors[0].data, ElementsAre(static_cast<float>(i), 1));
  }
  ASSERT_EQ(merged.models.size(), 3u);
  for (int64_t i = 0; i < 3; ++i) {
    ModelRow expected = model_at(97 + i);
    expected.first_sample = 10 + i;
    expected.sample_count = 1;
    EXPECT_EQ(text_of(merged.models[i]), text_of(expected));
    EXPECT_EQ(merged.models[i].samples, expected.samples);
  }
  ASSERT_EQ(merged.simulations.size(), 2u);
  EXPECT_EQ(text_of(merged.simulations[1]), text_of(simulation("b")));
}

TEST_F(Merge, ItsFileIsResumedAsTheWholePlan) {
  merge_results({write("a.h5", {0, 1}, 1, 2)}, out_, {.allow_missing = true});
  std::vector<std::string> finished;
  resume_results(out_, environment_, configs_, finished);
  EXPECT_THAT(finished, ElementsAre("row0", "row1", "model99", "a", "b"));
}

TEST_F(Merge, MixturesAreRefusedByFieldWithBothValues) {
  const std::string a = write("a.h5", {0}, 1, 2);
  const std::string differs = "b.h5: differs from " + a + ": ";
  const std::string hint = " (--allow-mixed merges anyway)";
  const auto sentence = [&] {
    std::filesystem::remove(folder_.file("b.h5"));
    return refused({a, write("b.h5", {1}, 2, 2)}).substr(folder_.file("").size());
  };
  environment_.cpu = "Another CPU";
  EXPECT_EQ(sentence(), differs + "cpu is 'Another CPU', there '" + environment().cpu + "'" + hint);
  environment_ = environment();
  environment_.isa = "avx2";
  environment_.threads = 3;
  EXPECT_EQ(sentence(),
            differs + "isa is 'avx2', there '" + environment().isa + "'; threads is '3', there '1012'" + hint);
  environment_ = environment();
  environment_.revision = "badcafe";
  EXPECT_EQ(sentence(), differs + "revision is 'badcafe', there '" + environment().revision + "'" + hint);
  environment_ = environment();
  configs_[1].name = "third";
  EXPECT_EQ(sentence(), differs + "config second is only there; config third is only here" + hint);
}

TEST_F(Merge, MixturesMergeOnRequestAndWithAWarning) {
  const std::string a = write("a.h5", {0, 4});
  environment_.cpu = "Another CPU";
  configs_.pop_back();
  configs_.insert(configs_.begin(), {"before", "", ""});
  const std::string b = write("b.h5", {1, 2});
  const MergeSummary summary = merge_results({a, b}, out_, {.allow_mixed = true});
  EXPECT_THAT(summary.warnings,
              ElementsAre(b + ": differs from " + a + ": cpu is 'Another CPU', there '" + environment().cpu +
                          "'; config second is only there; config before is only here"));
  const Results merged = read_results(out_);
  EXPECT_THAT(ids(merged), ElementsAre("row0", "row1", "row2", "row4"));
  EXPECT_EQ(merged.environment.cpu, environment().cpu);
  EXPECT_EQ(merged.configs.size(), 3u);
}

TEST_F(Merge, TwoTextsOfAConfigurationAreAlwaysRefused) {
  const std::string a = write("a.h5", {0});
  configs_[1].resolved = "name: second\ntypes: [bf16]\n";
  const std::string b = write("b.h5", {1});
  const std::string sentence = ": config second: line 2 is 'types: [bf16]', there ''";
  EXPECT_EQ(refused({a, b}), b + ": cannot be merged with " + a + sentence);
  EXPECT_EQ(refused({a, b}, {true, true}), b + ": cannot be merged with " + a + sentence);
  // Nor where the first file has no such configuration.
  configs_ = {kConfigs[0]};
  const std::string without = write("without.h5", {2});
  EXPECT_EQ(refused({without, a, b}, {true, true}), b + ": cannot be merged with " + a + sentence);
}

TEST_F(Merge, TimesAndPeaksMayDiffer) {
  const std::string a = write("a.h5", {0}, 1, 2);
  environment_.started = "later";
  environment_.copy_bandwidth *= 2;
  environment_.peaks[1].all_threads *= 2;
  environment_.peaks.push_back({"a third", 1, 2});
  EXPECT_THAT(merge_results({a, write("b.h5", {1}, 2, 2)}, out_, {}).warnings, IsEmpty());
  EXPECT_EQ(text_of(read_results(out_).environment), text_of(environment())) << "that of the first file";
}

TEST_F(Merge, MissingShardsAreRefused) {
  const std::string a = write("a.h5", {0}, 1, 4), c = write("c.h5", {1}, 3, 4), b = write("b.h5", {2}, 2, 4);
  EXPECT_EQ(refused({a, c}), "shards 2, 4 of 4 missing (--allow-missing merges anyway)");
  EXPECT_EQ(refused({a, b, c}), "shard 4 of 4 missing (--allow-missing merges anyway)");
  const MergeSummary summary = merge_results({a, c}, out_, {.allow_missing = true});
  EXPECT_THAT(summary.warnings, ElementsAre("shards 2, 4 of 4 missing"));
  EXPECT_THAT(ids(read_results(out_)), ElementsAre("row0", "row1"));
}

TEST_F(Merge, AnUnfinishedShardIsRefused) {
  const std::string a = write("a.h5", {0, 1}, 1, 2);
  unfinished_ = 2;
  const std::string b = write("b.h5", {2}, 2, 2);
  const std::string sentence = b + ": is unfinished, with 2 of 4 rows";
  EXPECT_EQ(refused({a, b}), sentence + " (nalab run --resume goes on with it, --allow-missing merges anyway)");
  EXPECT_THAT(merge_results({a, b}, out_, {.allow_missing = true}).warnings, ElementsAre(sentence));
}

TEST_F(Merge, WhatStandsTwiceIsRefused) {
  const std::string a = write("a.h5", {0}, 1, 2), again = write("again.h5", {1}, 1, 2);
  const MergeOptions all{true, true};
  EXPECT_EQ(refused({a, again}, all), "shard 1 of 2 is in both " + a + " and " + again);
  EXPECT_EQ(refused({a, a}, all), "shard 1 of 2 is in both " + a + " and " + a);
  const std::string x = write("x.h5", {0, 1}), y = write("y.h5", {2, 1});
  EXPECT_EQ(refused({x, y}, all), "row row1 is in both " + x + " and " + y);
  for (const char* name : {"p.h5", "q.h5"}) {
    create_results(folder_.file(name), environment_, configs_)->append_models(std::vector{model_at(1)});
  }
  const std::string p = folder_.file("p.h5"), q = folder_.file("q.h5");
  EXPECT_EQ(refused({p, q}, all), "row model1 is in both " + p + " and " + q);
}

TEST_F(Merge, ShardsOfOtherDivisionsAreRefused) {
  const std::string a = write("a.h5", {0}, 1, 2), other = write("other.h5", {1}, 2, 3), whole = write("whole.h5", {2});
  const MergeOptions all{true, true};
  const std::string start = ": cannot be merged with " + a + ": it is ";
  EXPECT_EQ(refused({a, other}, all), other + start + "one of 3 shards and that is one of 2 shards");
  EXPECT_EQ(refused({whole, a}, all),
            a + ": cannot be merged with " + whole + ": it is one of 2 shards and that is no shard");
  filter_ = "bf16";
  const std::string filtered = write("filtered.h5", {1}, 2, 2);
  EXPECT_EQ(refused({a, filtered}, all), filtered + start + "of filter 'bf16' and that is of 'f32'");
}

TEST_F(Merge, RowsOfSeveralConfigurationsAreInTheirOrder) {
  // Each of the runs counted its rows from 0.
  const auto run = [&](const std::string& name, const std::string& config) {
    std::vector<FinishedRow> rows;
    for (const int64_t position : {1, 0, 2}) {
      rows.push_back(at(position, config));
      rows.back().row.id = config + std::to_string(position);
    }
    create_results(folder_.file(name), environment_, configs_)->append(rows);
    return folder_.file(name);
  };
  merge_results({run("a.h5", "second"), run("b.h5", "first")}, out_, {});
  EXPECT_THAT(ids(read_results(out_)), ElementsAre("first0", "first1", "first2", "second0", "second1", "second2"));
}

TEST_F(Merge, AnOutputThatExistsIsLeftAlone) {
  const std::string a = write("a.h5", {0});
  EXPECT_EQ(refusal([&] { merge_results({a}, a, {}); }), a + ": already exists; name another file with -o");
  EXPECT_THAT(ids(read_results(a)), ElementsAre("row0"));
  EXPECT_EQ(refusal([&] { merge_results({a}, folder_.file("no folder/out.h5"), {}); }),
            folder_.file("no folder/out.h5") + ": cannot be written: No such file or directory");
}

TEST_F(Merge, ABadFileIsNamed) {
  const std::string a = write("a.h5", {0}), text = folder_.file("text.h5");
  std::ofstream(text) << "name: first\n";
  EXPECT_EQ(refused({a, text}), text + ": is not an HDF5 file");
}

}  // namespace
}  // namespace nalab::store
