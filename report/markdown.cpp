#include <fmt/format.h>

#include <cstring>

#include "report/render.h"

namespace nalab::report {
namespace {

std::string line(const std::vector<std::string>& cells) { return fmt::format("| {} |\n", fmt::join(cells, " | ")); }

}  // namespace

std::string escape_markdown(const std::string& text) {
  std::string result;
  for (char c : text) {
    if (std::strchr("\\`*_<>|[]", c) != nullptr) result += '\\';
    // A line break would end a row of the table.
    result += c == '\n' || c == '\r' ? ' ' : c;
  }
  return result;
}

std::string to_markdown(const Table& table) {
  std::string text = fmt::format("## {}\n\n", escape_markdown(table.title));
  for (const std::string& sentence : table.caption) text += escape_markdown(sentence) + "\n";
  text += "\n";

  std::vector<std::string> headings, rules;
  for (const Column& column : table.columns) {
    headings.push_back(escape_markdown(column.group.empty() ? column.heading : column.group + " " + column.heading));
    rules.push_back(column.is_number ? "---:" : "---");
  }
  text += line(headings) + line(rules);
  for (const auto& row : table.rows) {
    std::vector<std::string> cells;
    for (const Cell& cell : row) {
      cells.push_back(escape_markdown(cell.text) +
                      (cell.footnote > 0 ? fmt::format(" <sup>{}</sup>", cell.footnote) : ""));
    }
    text += line(cells);
  }
  if (!table.footnotes.empty()) text += "\n";
  for (std::size_t i = 0; i < table.footnotes.size(); ++i) {
    text += fmt::format("{}. {}\n", i + 1, escape_markdown(table.footnotes[i]));
  }
  return text;
}

}  // namespace nalab::report
