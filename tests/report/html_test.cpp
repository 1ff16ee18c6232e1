// The page by its structure: everything is there once, nothing is loaded, nothing of a text is markup.
#include "report/html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "report/draw.h"
#include "tests/report/has_gnuplot.h"
#include "tests/report/sample_results.h"

namespace nalab::report {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kNasty = "a <b> & \"c\" 'd' </script><script>alert(1)</script>";

Claim sample_claim(double published, std::optional<double> ours) {
  Claim claim;
  claim.statement = std::string("Fused beats naive: ") + kNasty;
  claim.source = "a paper, figure 1";
  claim.published = published;
  claim.published_text = improvement_text(published);
  claim.ours = ours;
  if (ours) {
    claim.ours_text = improvement_text(*ours);
  } else {
    claim.why_not = "no problem of the kind was run";
  }
  claim.table = "t";
  return claim;
}

Section nasty_section() {
  Section section;
  section.name = "nasty";
  section.title = kNasty;
  section.about = {kNasty};
  section.sources = {kNasty};
  section.claims = {sample_claim(2, 3), sample_claim(2, 0.5), sample_claim(2, -0.5), sample_claim(2, std::nullopt),
                    sample_claim(2, 1)};
  section.claims.back().why_not = "too few samples";
  Plot plot;
  plot.name = "bars";
  plot.title = kNasty;
  plot.caption = {kNasty};
  plot.y = {kNasty, false};
  plot.categories = {kNasty, "other"};
  plot.series = {{kNasty, Role::ours, Mark::bars, {{0, 1}, {1, 2}}}};
  section.plots = {plot, plot, plot};
  section.plots[1].name = "more_bars";
  section.plots[2].name = "without_points";
  section.plots[2].series.clear();
  Table table;
  table.name = "t";
  table.title = kNasty;
  table.caption = {kNasty};
  table.columns = {{kNasty, kNasty, false}, {"n", kNasty, true}};
  table.rows = {{{kNasty}, {"failed", table.footnote(kNasty)}}};
  section.tables = {table, table};
  section.tables[1].name = "detail";
  section.tables[1].is_detail = true;
  return section;
}

Report sample_report() {
  Report report = make_report({sample_results()}, {});
  report.chapters.at(0).origin.machine = kNasty;
  report.chapters.at(0).sections.push_back(nasty_section());
  return report;
}

Images sample_images(const Report& report) {
  Images images;
  for (const Chapter& chapter : report.chapters) {
    for (const Section& section : chapter.sections) {
      for (const Plot& plot : section.plots) {
        if (has_points(plot)) images.emplace(plot.name, draw_svg(plot));
      }
    }
  }
  return images;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

std::multiset<std::string> matches(const std::string& text, const char* pattern) {
  const std::regex regex(pattern);
  std::multiset<std::string> found;
  for (std::sregex_iterator i(text.begin(), text.end(), regex), end; i != end; ++i) found.insert((*i)[1].str());
  return found;
}

TEST(Html, EscapesWhatWouldBeMarkup) {
  EXPECT_EQ(escape_html("<a href=\"x\">'&'</a>\n"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt; ");
  const Report report = sample_report();
  const std::string page = to_html(report, {});
  EXPECT_THAT(page, Not(HasSubstr("<b> &")));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, HasSubstr("a &lt;b&gt; &amp; &quot;c&quot;"));
}

TEST(Html, TextsInPlotsAreNoMarkup) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  const Report report = sample_report();
  const std::string page = to_html(report, sample_images(report));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("<b> &")));
}

TEST(Html, LoadsNothing) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  const Report report = sample_report();
  const std::string page = to_html(report, sample_images(report));
  for (const std::string& target : matches(page, "(?:href|src)\\s*=\\s*[\"']([^\"']*)")) {
    EXPECT_EQ(target.at(0), '#') << target;
  }
  for (const char* loader :
       {"<script", "<link", "<img", "<iframe", "<object", "@import", "url(", "http://", "https://"}) {
    EXPECT_EQ(count(page, loader), 0u) << loader;
  }
}

TEST(Html, IdsAreUniqueAndLinksLeadSomewhere) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  const Report report = sample_report();
  const std::string page = to_html(report, sample_images(report));
  const auto ids = matches(page, "\\sid=[\"']([^\"']*)");
  EXPECT_GT(ids.size(), 20u);
  for (const std::string& id : ids) EXPECT_EQ(ids.count(id), 1u) << id;
  for (const std::string& link : matches(page, "href=[\"']#([^\"']*)")) EXPECT_EQ(ids.count(link), 1u) << link;
  for (const std::string& label : matches(page, "aria-labelledby=\"([^\"]*)")) EXPECT_EQ(ids.count(label), 1u) << label;
}

TEST(Html, HasEachTablePlotAndSectionOnce) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  const Report report = sample_report();
  const std::string page = to_html(report, sample_images(report));
  const std::size_t tables = tables_of(report).size() - 1;  // claims are a list
  EXPECT_EQ(count(page, "<table>"), tables + 1) << "and that of the files";
  for (const Table& table : tables_of(report)) {
    if (table.name == kClaims) continue;
    EXPECT_EQ(count(page, " id=\"t-" + table.name + "\""), 1u) << table.name;
  }
  EXPECT_EQ(count(page, "<figure"), sample_images(report).size());
  EXPECT_EQ(count(page, "<svg"), sample_images(report).size());
  EXPECT_EQ(count(page, "<section id=\"s-"), report.chapters[0].sections.size());
  EXPECT_THAT(page, Not(HasSubstr("p-without_points")));
  EXPECT_THAT(page, Not(HasSubstr("left out")));
  for (const char* tag : {"section", "article", "details", "figure", "table", "ul", "ol", "p", "div", "main", "nav"}) {
    const std::string name = tag;
    EXPECT_EQ(matches(page, ("<(" + name + ")[ >]").c_str()).size(), count(page, "</" + name + ">")) << tag;
  }
}

TEST(Html, SaysWhatHoldsAndByWhichRule) {
  const std::string page = to_html(sample_report(), {});
  EXPECT_THAT(
      page,
      HasSubstr("1 of 5 published claims holds here, 1 in part, 1 does not, 1 is not judged, 1 was not measured."));
  for (const char* verdict :
       {"verdict holds\">holds<", "verdict part\">holds in part<", "verdict fails\">does not hold<",
        "verdict unknown\">not measured<", "verdict unknown\">not judged<"}) {
    EXPECT_EQ(count(page, verdict), 1u) << verdict;
  }
  EXPECT_THAT(page, HasSubstr(escape_html(rule())));
  EXPECT_THAT(page, HasSubstr("published <b>+200 %</b> · here <b>+300 %</b>"));
  EXPECT_THAT(page, HasSubstr("here not measured: no problem of the kind was run"));
  EXPECT_EQ(count(page, "<a href=\"#t-t\">table</a>"), 5u);
  EXPECT_THAT(page, HasSubstr("here <b>+100 %</b>: too few samples"));
}

TEST(Html, WithoutClaimsItSaysSo) {
  EXPECT_THAT(to_html(make_report({sample_results()}, {}), {}),
              HasSubstr("No published claim is about these results."));
}

TEST(Html, FailuresStandOut) {
  const std::string page = to_html(make_report({sample_results()}, {}), {});
  EXPECT_THAT(page, HasSubstr("<b>1 with a wrong result</b>"));
  EXPECT_THAT(page, HasSubstr("2 not run (the tables say why)"));
  EXPECT_THAT(page, HasSubstr("failed\">failed<sup>"));
  EXPECT_THAT(page, HasSubstr("a window of 5 is &quot;too odd&quot; | really"));
  EXPECT_EQ(matches(page, "<td[^>]*>(<)/td>").size(), 0u) << "no cell is blank";
}

TEST(Html, WithoutImagesItSaysSo) {
  const std::string page = to_html(sample_report(), {}, "gnuplot < 5 fails");
  EXPECT_EQ(count(page, "<figure"), 0u);
  EXPECT_THAT(page, HasSubstr("Plots are left out: where this page was made, gnuplot &lt; 5 fails.</p>"));
}

TEST(Html, NamesFileCommitAndTime) {
  const std::string page = to_html(make_report({sample_results()}, {}), {});
  EXPECT_THAT(page, HasSubstr("<b>Example CPU 9000 @ 3.0 GHz, avx2, 2 threads</b>"));
  EXPECT_THAT(page, HasSubstr("commit 0123456789ab · 2025-01-02T03:04:05Z · 4 rows measured"));
  EXPECT_THAT(page, HasSubstr("<td>sample.h5</td>"));
}

TEST(Html, MachinesHaveChaptersOfTheirOwn) {
  store::Results other = sample_results();
  other.environment.cpu = "Another CPU";
  const std::string page = to_html(make_report({sample_results(), other}, {}), {});
  EXPECT_THAT(page, HasSubstr("<h1>Example CPU 9000 @ 3.0 GHz, avx2, 2 threads</h1>"));
  EXPECT_THAT(page, HasSubstr("<h1>Another CPU, avx2, 2 threads</h1>"));
  EXPECT_EQ(count(page, "id=\"s-small_case\""), 1u);
  EXPECT_EQ(count(page, "id=\"s-small_case_2\""), 1u);
}

TEST(Html, FollowsTheTheme) {
  const std::string page = to_html(sample_report(), {});
  EXPECT_THAT(page, HasSubstr("@media (prefers-color-scheme: dark)"));
  const auto used = matches(page, "var\\(--([a-z0-9-]+)\\)");
  for (const std::string& variable : std::set<std::string>(used.begin(), used.end())) {
    EXPECT_EQ(count(page, "--" + variable + ": "), 2u) << variable << " in both themes";
  }
}

}  // namespace
}  // namespace nalab::report
