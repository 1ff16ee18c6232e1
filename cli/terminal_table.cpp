#include "cli/terminal_table.h"

#include <algorithm>
#include <utility>

#include "cli/standard_streams.h"

namespace nalab::cli {

std::size_t text_width(std::string_view text) {
  const auto begins_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  return static_cast<std::size_t>(std::ranges::count_if(text, begins_character));
}

TerminalTable::TerminalTable(std::vector<Column> columns) : columns_(std::move(columns)) {
  for (Column& column : columns_) column.width = std::max(column.width, text_width(column.heading));
}

void TerminalTable::add(Cells cells) {
  for (std::size_t i = 0; i < cells.size(); ++i) {
    columns_[i].width = std::max(columns_[i].width, text_width(printable(cells[i])));
  }
  lines_.push_back({std::move(cells), ""});
}

void TerminalTable::add_note(std::string_view text) { lines_.push_back({{}, printable(text)}); }

std::string TerminalTable::to_string() const {
  const bool has_headings = std::ranges::any_of(columns_, [](const Column& column) { return !column.heading.empty(); });
  std::string text = has_headings ? heading_line() : "";
  for (const Line& added : lines_) text += added.cells.empty() ? added.note + "\n" : line(added.cells);
  return text;
}

std::string TerminalTable::heading_line() const {
  Cells headings;
  for (const Column& column : columns_) headings.push_back(column.heading);
  return line(headings);
}

std::string TerminalTable::line(const Cells& cells) const {
  std::string text;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::string cell = printable(cells[i]);
    const std::size_t width = text_width(cell);
    const std::string padding(columns_[i].width - std::min(width, columns_[i].width), ' ');
    if (i > 0) text += "  ";
    text += columns_[i].align == Align::left ? cell + padding : padding + cell;
  }
  text.erase(text.find_last_not_of(' ') + 1);
  return text + "\n";
}

}  // namespace nalab::cli
