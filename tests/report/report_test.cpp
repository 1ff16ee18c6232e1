// From a results file to the exact bytes of its tables.
#include "report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "store/results.h"
#include "tests/report/golden.h"
#include "tests/report/made_results.h"
#include "tests/report/sample_results.h"
#include "tests/source_folder.h"

namespace nalab::report {
namespace {

namespace fs = std::filesystem;

class ReportFiles : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path folder_ = fs::temp_directory_path() / ("nalab_report_test_" + std::to_string(getpid()));
};

/// The results file that stands in data/golden: sample_results() as the schema was when it was written.
std::string golden_results() {
  const std::string path = source_folder() + "/data/golden/small_case.h5";
  if (std::getenv("NALAB_UPDATE_GOLDEN") != nullptr) {
    fs::remove(path);
    const store::Results sample = sample_results();
    auto sink = store::create_results(path, sample.environment, sample.configs);
    for (const store::Row& row : sample.rows) sink->append(std::vector<store::FinishedRow>{{row, {}}});
  }
  return path;
}

TEST_F(ReportFiles, GivesTheExpectedFiles) {
  const fs::path out = folder_ / "out";
  // The page is told by its structure, in html_test.cpp: its plots are gnuplot's.
  const Written written =
      write_report(make_report({store::read_results(golden_results())}, {}), out.string(), {.html = false});
  EXPECT_THAT(expect_golden(written.paths, ""), testing::ElementsAre("report.md", "small_case_overview.tex",
                                                                     "small_case.csv", "small_case.tex", "report.tex"));
  EXPECT_EQ(std::distance(fs::directory_iterator(out), fs::directory_iterator()), 6)
      << "these and the list of them: no temporary is left";
}

TEST_F(ReportFiles, WritesTheFormatsAskedForAlone) {
  const Report report = make_report({sample_results()}, {});
  const auto written = [&](const Formats& formats) { return write_report(report, folder_.string(), formats).paths; };
  const Formats none{.html = false, .markdown = false, .csv = false, .latex = false};
  EXPECT_THAT(written(none), testing::IsEmpty());
  Formats formats = none;
  formats.markdown = true;
  EXPECT_THAT(written(formats), testing::ElementsAre((folder_ / "report.md").string()));
  formats = none;
  formats.csv = true;
  EXPECT_THAT(written(formats), testing::ElementsAre((folder_ / "small_case.csv").string()));
  formats = none;
  formats.html = true;
  EXPECT_THAT(written(formats), testing::ElementsAre((folder_ / "index.html").string()));
}

std::vector<std::string> table_names(const Report& report) {
  std::vector<std::string> names;
  for (const Table& table : tables_of(report)) names.push_back(table.name);
  return names;
}

TEST_F(ReportFiles, OfModelsAlone) {
  const Report report = make_report({whole_models()}, {.baseline = "naive"});
  EXPECT_THAT(table_names(report), testing::ElementsAre("claims", "faster_na_table5", "faster_na_table6",
                                                        "faster_na_table7", "faster_na_table8", "models"));
  write_report(report, folder_.string(), {});
  for (const char* name : {"index.html", "faster_na_table8.csv", "faster_na_table8.tex", "models.csv", "models.tex"}) {
    EXPECT_TRUE(fs::exists(folder_ / name)) << name;
  }
}

TEST_F(ReportFiles, TablesHaveNamesOfTheirOwn) {
  store::Results odd = sample_results(), elsewhere = sample_results();
  for (store::Row& row : odd.rows) row.config = "../a b";
  elsewhere.environment.cpu = "Another CPU";
  EXPECT_THAT(table_names(make_report({sample_results(), odd, elsewhere}, {})),
              testing::ElementsAre("small_case_overview", "small_case", ".._a_b_overview", ".._a_b",
                                   "small_case_overview_2", "small_case_2"));
}

TEST_F(ReportFiles, EachMachineHasATableOfItsClaims) {
  const auto chapter = [](const std::string& machine, double ours) {
    Section section;
    section.claims = {
        {.statement = "A is faster than B.", .source = "s", .published = 1, .ours = ours, .published_text = "+100 %"}};
    return Chapter{{machine, {}}, {section}};
  };
  const Chapter one = chapter("one", 2), without{{"without claims", {}}, {}}, two = chapter("two", -0.5);
  const std::vector<Table> alone = tables_of({{one}});
  ASSERT_EQ(alone.size(), 1u);
  EXPECT_EQ(alone[0].caption.size(), 1u) << "the rule alone";
  const Report report{{one, without, two}};
  EXPECT_THAT(table_names(report), testing::ElementsAre("claims", "claims_2"));
  EXPECT_EQ(tables_of(report)[0].caption[0], "one.");
  EXPECT_EQ(tables_of(report)[1].caption[0], "two.");
  write_report(report, folder_.string(), {.html = false});
  const auto text_of = [this](const std::string& name) {
    std::ifstream file(folder_ / name);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_THAT(text_of("report.md"),
              testing::ContainsRegex("one\\.(.|\n)*holds \\|(.|\n)*two\\.(.|\n)*does not hold \\|"));
  EXPECT_THAT(text_of("claims.csv"), testing::HasSubstr(",2,holds,"));
  EXPECT_THAT(text_of("claims_2.csv"), testing::HasSubstr(",-0.5,does not hold,"));
  EXPECT_THAT(text_of("claims_2.tex"), testing::HasSubstr("two."));
}

std::string refusal(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(ReportFiles, AFileWithoutRowsIsLeftOutAndNamed) {
  store::Results empty = sample_results();
  empty.path = "somewhere/began_just_now.h5";
  empty.environment.cpu = "A CPU that has no results";
  empty.rows.clear();
  const Report report = make_report({empty, sample_results()}, {});
  EXPECT_THAT(report.empty_files, testing::ElementsAre(empty.path));
  EXPECT_EQ(report.chapters.size(), 1u);
  EXPECT_THAT(table_names(report), testing::ElementsAre("small_case_overview", "small_case"));
  write_report(report, folder_.string(), {.csv = false});
  for (const char* name : {"index.html", "report.md", "report.tex"}) {
    std::string text = read_file(folder_ / name);
    std::erase(text, '\\');
    EXPECT_THAT(text, testing::HasSubstr("began_just_now.h5 holds no finished row and is left out.")) << name;
  }
}

TEST_F(ReportFiles, RefusesInOneSentence) {
  store::Results empty = sample_results(), other = empty;
  empty.rows.clear();
  EXPECT_EQ(refusal([&] { make_report({empty}, {}); }), "there is nothing to report: sample.h5 holds no finished row");
  other.rows.clear();
  other.path = "other.h5";
  EXPECT_EQ(refusal([&] {
              make_report({empty, other}, {});
            }),
            "there is nothing to report: sample.h5 and other.h5 hold no finished row");
  EXPECT_EQ(refusal([&] { make_report({sample_results()}, {.baseline = "denze"}); }),
            "baseline 'denze' is not among the variants in the results: dense, fused, naive");
  const std::string file = (folder_ / "file").string();
  std::ofstream(file) << "in the way";
  EXPECT_EQ(refusal([&] { write_report({}, file, {}); }), file + ": cannot be created as a folder");
  fs::create_directories(folder_ / "out/report.md/in the way");
  EXPECT_EQ(refusal([&] { write_report({}, (folder_ / "out").string(), {.html = false}); }),
            (folder_ / "out/report.md").string() + ": cannot be written: Is a directory");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "out"), fs::directory_iterator()), 1);
  EXPECT_EQ(refusal([&] { write_report({}, "", {}); }), "the name of the folder to write to is empty");
  const std::string too_long = (folder_ / std::string(300, 'x')).string();
  EXPECT_EQ(refusal([&] { write_report({}, too_long, {}); }), too_long + ": cannot be created as a folder");
}

}  // namespace
}  // namespace nalab::report
