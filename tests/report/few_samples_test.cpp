// Times of fewer than 3 samples in the published tables: footnotes, captions, and claims that are not judged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "report/modules.h"
#include "report/render.h"
#include "tests/report/made_results.h"

namespace nalab::report {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

/// The sections of a module after a row, found by variant and layout, is left with a number of samples.
Section with_samples(std::vector<Section> (*sections)(const store::Results&, const Options&), store::Results results,
                     const std::string& variant, const std::string& layout, std::size_t samples) {
  for (store::Row& row : results.rows) {
    if (row.variant == variant && row.layout == layout) row.samples.resize(samples, row.samples.at(0));
  }
  return sections(results, {}).at(0);
}

/// The footnotes of a table's cells that have this heading and group, for each row; empty if there is none.
std::vector<std::string> notes_of(const Table& table, const std::string& heading, const std::string& group) {
  std::vector<std::string> notes;
  for (const auto& row : table.rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (table.columns[i].heading != heading || table.columns[i].group != group) continue;
      notes.push_back(row[i].footnote == 0 ? "" : table.footnotes.at(row[i].footnote - 1));
    }
  }
  return notes;
}

constexpr const char* kDenseHasOne = "fewer than 3 samples: dense has 1";

TEST(FewSamples, OfSelfAttentionMarkSpeedupsOfGeneralizedNa) {
  const Section section = with_samples(generalized_na_sections, use_cases("gna_op_level"), "dense", "30x48x80", 1);
  for (const char* heading : {"actual", "without packing"}) {
    EXPECT_THAT(notes_of(section.tables.at(0), heading, "here"), Contains(kDenseHasOne)) << heading;
  }
  EXPECT_THAT(notes_of(section.tables.at(0), "FLOP-wise", "bound"), Not(Contains(kDenseHasOne)));
  EXPECT_THAT(to_csv(section.tables.at(0)), HasSubstr(",self_attention_samples,"));
  EXPECT_THAT(section.plots.at(0).caption,
              Contains("2 of 2 speedups have fewer than 3 samples of one of their times."));
  for (const Claim& claim : section.claims) {
    EXPECT_EQ(judge(claim), ClaimVerdict::not_judged) << claim.statement;
    EXPECT_EQ(claim.why_not, kDenseHasOne);
    EXPECT_TRUE(claim.ours.has_value());
  }
  const Section enough = with_samples(generalized_na_sections, use_cases("gna_op_level"), "dense", "30x48x80", 3);
  EXPECT_EQ(judge(enough.claims.at(0)), ClaimVerdict::holds);
  EXPECT_THAT(enough.plots.at(0).caption, Not(Contains(HasSubstr("fewer than"))));
}

TEST(FewSamples, OfTheVariantItselfCountToo) {
  const Section section = with_samples(generalized_na_sections, use_cases("gna_op_level"), "fused", "30x48x80", 2);
  EXPECT_THAT(notes_of(section.tables.at(0), "actual", "here"), Contains("fewer than 3 samples: fused has 2"));
  EXPECT_EQ(judge(section.claims.at(0)), ClaimVerdict::not_judged);
}

TEST(FewSamples, MarkProjections) {
  const Section section = with_samples(end_to_end_sections, use_cases("gna_op_level"), "dense", "30x48x80", 1);
  for (const char* heading : {"attention", "end to end, projected"}) {
    EXPECT_THAT(notes_of(section.tables.at(2), heading, "here, f32"), Contains(kDenseHasOne)) << heading;
  }
  EXPECT_THAT(section.plots.at(2).caption, Contains(HasSubstr("fewer than 3 samples")));
  EXPECT_EQ(judge(section.claims.at(0)), ClaimVerdict::not_judged);
}

TEST(FewSamples, MarkTheProfilersSpeedupsButNotSelfAttentionItself) {
  const Section section = with_samples(profiler_sections, use_cases("natten_profiler"), "dense", "30x48x80", 1);
  const std::vector<std::string> notes = notes_of(section.tables.at(0), "speedup", "here");
  EXPECT_EQ(std::count(notes.begin(), notes.end(), kDenseHasOne), 2) << "stride 1 and 16x8x8";
  EXPECT_THAT(section.plots.at(0).caption, Contains(HasSubstr("fewer than 3 samples")));
}

TEST(FewSamples, OfOnePatternMarkTheStack) {
  store::Results results = cosmos(true);
  results.rows.at(1).samples = {0.1};
  const Section section = cosmos_predict2_sections(results, {}).at(0);
  const std::string note = "fewer than 3 samples: fused has 1";
  EXPECT_THAT(notes_of(section.tables.at(0), "speedup", "here"), testing::ElementsAre("", note, "", "", ""));
  EXPECT_EQ(notes_of(section.tables.at(1), "speedup here", "").back(), "global_w: " + note);
  EXPECT_THAT(section.plots.at(0).caption, Contains(HasSubstr("1 of 5 speedups has fewer than 3 samples")));
  EXPECT_EQ(judge(section.claims.at(0)), ClaimVerdict::not_judged);
}

TEST(FewSamples, AReliableSettingIsPreferredForTheClaim) {
  store::Results results = cosmos(true);
  for (store::Row row : cosmos(true).rows) {
    for (std::string* text : {&row.layout, &row.window, &row.problem, &row.baseline, &row.id}) {
      text->replace(0, 1, "16");
    }
    row.samples = {row.variant == "fused" ? row.samples[0] / 2 : row.samples[0]};
    results.rows.push_back(row);
  }
  const Claim claim = cosmos_predict2_sections(results, {}).at(0).claims.at(0);
  EXPECT_EQ(claim.table, "cosmos_predict2_2B_8_frames_f32");
  EXPECT_EQ(claim.why_not, "");
}

TEST(FewSamples, OfOneProblemMarkTheAverages) {
  store::Results results = with_config("fna_small", "faster_na");
  add_sweep(results, {"64", "3", "1", "1", "f16"}, 10, 2.5, 1, 4);
  add_sweep(results, {"64", "5", "1", "1", "f16"}, 10, 10, 5, 4);
  const std::string note = "1 of 2 speedups has fewer than 3 samples of one of its times";
  for (store::Row& row : results.rows) {
    if (row.variant == "naive" && row.window == "3") row.samples = {row.samples[0]};
  }
  const Section section = faster_na_sections(results, {}).at(0);
  for (const char* heading : {"average", "geometric mean", "median", "min", "max"}) {
    EXPECT_THAT(notes_of(section.tables.at(0), heading, "here"), testing::ElementsAre(note, note, "", note, ""))
        << heading;
  }
  EXPECT_THAT(notes_of(section.tables.at(1), "naive", "here"), testing::ElementsAre("", note, note, note));
  EXPECT_EQ(section.tables.at(0).records.fields.back(), "with_few_samples");
  EXPECT_EQ(section.tables.at(0).records.lines.at(0).back(), "1");
  EXPECT_THAT(section.plots.at(0).caption,
              Contains("3 of 6 speedups have fewer than 3 samples of one of their times."));
  EXPECT_EQ(judge(section.claims.at(0)), ClaimVerdict::not_judged);
  EXPECT_EQ(section.claims.at(0).why_not, note);
}

}  // namespace
}  // namespace nalab::report
