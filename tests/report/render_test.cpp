#include "report/render.h"

#include <gtest/gtest.h>

#include <cmath>

#include "report/format.h"

namespace nalab::report {
namespace {

Table table_of(const std::string& text) {
  Table table;
  table.name = "t_1";
  table.title = text;
  table.columns = {{"c", "", false}, {"n", "", true}};
  table.rows = {{{text}, {"1", table.footnote(text)}}};
  table.records = {{"c"}, {{text}}};
  return table;
}

TEST(Render, LatexEscapesWhatItWouldRead) {
  EXPECT_EQ(escape_latex("50% of a_b & {c} #1 $2"), "50\\% of a\\_b \\& \\{c\\} \\#1 \\$2");
  EXPECT_EQ(escape_latex("\\~^<>|\""),
            "\\textbackslash{}\\textasciitilde{}\\textasciicircum{}\\textless{}\\textgreater{}\\textbar{}"
            "\\textquotedbl{}");
  // A bracket that begins a row must not be read as an argument of the "\\" before it.
  EXPECT_EQ(escape_latex("[x]"), "{[}x{]}");
}

TEST(Render, MarkdownEscapesWhatWouldEndACell) {
  EXPECT_NE(to_markdown(table_of("a|b_c*<d>")).find("| a\\|b\\_c\\*\\<d\\> | 1 <sup>1</sup> |"), std::string::npos);
}

TEST(Render, LineBreaksEndNoRow) {
  EXPECT_NE(to_markdown(table_of("a\r\nb")).find("| a  b | 1 <sup>1</sup> |"), std::string::npos);
  EXPECT_EQ(escape_latex("a\n\nb"), "a  b");
}

TEST(Render, CsvKeepsAnEmptyFirstField) {
  Table table = table_of("x");
  table.records = {{"a", "b"}, {{"", "1"}}};
  EXPECT_EQ(to_csv(table), "a,b\n,1\n");
}

TEST(Render, NumbersWithoutMagnitude) {
  EXPECT_EQ(significant(0, 3), "0.00");
  EXPECT_EQ(significant(INFINITY, 3), "inf");
}

TEST(Render, CsvQuotesWhatWouldEndAField) {
  EXPECT_EQ(to_csv(table_of("a,\"b\"\nc")), "c\n\"a,\"\"b\"\"\nc\"\n");
  for (const std::string text : {"a,b", "a\nb", "a\rb"}) EXPECT_EQ(to_csv(table_of(text)), "c\n\"" + text + "\"\n");
  EXPECT_EQ(to_csv(table_of("plain")), "c\nplain\n");
}

TEST(Render, TableWithoutRecordsHasNoCsv) {
  Table table = table_of("x");
  table.records = {};
  EXPECT_EQ(to_csv(table), "");
}

TEST(Render, EqualFootnotesShareANumber) {
  Table table;
  EXPECT_EQ(table.footnote("first"), 1);
  EXPECT_EQ(table.footnote("second"), 2);
  EXPECT_EQ(table.footnote("first"), 1);
  EXPECT_EQ(table.footnotes.size(), 2u);
}

TEST(Render, LatexRulesStandUnderGroupsOnly) {
  Table table = table_of("x");
  EXPECT_EQ(to_latex(table).find("cmidrule"), std::string::npos);
  table.columns = {{"problem", "", false}, {"ms", "naive", true}, {"speedup", "naive", true}};
  table.rows.clear();
  EXPECT_NE(to_latex(table).find("\\multicolumn{1}{c}{} & \\multicolumn{2}{c}{naive} \\\\\n\\cmidrule(lr){2-3}\n"),
            std::string::npos);
}

}  // namespace
}  // namespace nalab::report
