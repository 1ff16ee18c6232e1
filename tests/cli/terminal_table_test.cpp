#include "cli/terminal_table.h"

#include <gtest/gtest.h>

namespace nalab::cli {
namespace {

using Align = TerminalTable::Align;

TEST(TerminalTable, ColumnsAreAsWideAsTheirWidestCells) {
  TerminalTable table({{"name"}, {"time", Align::right}, {"remark"}});
  table.add({"a", "1 s", "fast"});
  table.add({"a long name", "1000 s", "slow"});
  EXPECT_EQ(table.to_string(),
            "name           time  remark\n"
            "a               1 s  fast\n"
            "a long name  1000 s  slow\n");
}

TEST(TerminalTable, PrintsNoHeadingLineIfThereAreNoHeadings) {
  TerminalTable table({{}, {}});
  table.add({"a_very_long_name", "what it is"});
  table.add({"", "what else it is"});
  table.add({"b", "another"});
  EXPECT_EQ(table.to_string(),
            "a_very_long_name  what it is\n"
            "                  what else it is\n"
            "b                 another\n");
}

TEST(TerminalTable, NoLineEndsWithBlanks) {
  TerminalTable table({{"a"}, {"b"}, {"c"}});
  table.add({"x", "", ""});
  table.add({"y"});
  table.add({"long", "longer", "longest"});
  EXPECT_EQ(table.to_string(),
            "a     b       c\n"
            "x\n"
            "y\n"
            "long  longer  longest\n");
}

TEST(TerminalTable, NotesStandOutsideTheColumns) {
  TerminalTable table({{"a"}, {"b"}});
  table.add({"1", "2"});
  table.add_note("  wider than any column");
  table.add({"3", "4"});
  EXPECT_EQ(table.to_string(),
            "a  b\n"
            "1  2\n"
            "  wider than any column\n"
            "3  4\n");
}

TEST(TerminalTable, CountsCharactersNotBytes) {
  TerminalTable table({{}, {}});
  table.add({"\u00e4\u00e4", "1"});
  table.add({"abc", "2"});
  EXPECT_EQ(table.to_string(), "\u00e4\u00e4   1\nabc  2\n");
}

TEST(TerminalTable, ControlCharactersDoNotReachTheTerminal) {
  TerminalTable table({{}, {}});
  table.add({"\x1b[1m", "x\ny"});
  table.add({"b", "\x7f"});
  table.add_note("\r\a");
  EXPECT_EQ(table.to_string(), "\\x1b[1m  x y\nb        \\x7f\n \\x07\n");
}

TEST(TerminalTable, LinesKeepTheirWidthIfRowsAreNotKnownBeforehand) {
  const TerminalTable table({{"name", Align::left, 6}, {"result"}});
  EXPECT_EQ(table.heading_line(), "name    result\n");
  EXPECT_EQ(table.line({"a", "ok"}), "a       ok\n");
  EXPECT_EQ(table.line({"longer than that", "ok"}), "longer than that  ok\n");
}

}  // namespace
}  // namespace nalab::cli
