// Tables on the terminal: every column that a command prints is laid out here.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace nalab::cli {

/// Characters of UTF-8 text, each taken to be one place wide.
std::size_t text_width(std::string_view text);

/// Columns two blanks apart, each as wide as its widest cell. No line ends with blanks.
class TerminalTable {
 public:
  enum class Align { left, right };

  struct Column {
    std::string heading = "";
    Align align = Align::left;
    std::size_t width = 0;  ///< at least; for a table that is printed before all its rows are known
  };

  using Cells = std::vector<std::string>;

  explicit TerminalTable(std::vector<Column> columns);

  /// Adds a row. Cells that are missing at its end are empty. An empty first cell continues the row above.
  void add(Cells cells);
  /// Adds a line that stands outside the columns.
  void add_note(std::string_view text);

  /// The headings, unless all are empty, then what was added, in that order.
  std::string to_string() const;

  /// One line, with the widths known so far.
  std::string heading_line() const;
  std::string line(const Cells& cells) const;

 private:
  struct Line {
    Cells cells;
    std::string note;  ///< stands alone if there are no cells
  };

  std::vector<Column> columns_;
  std::vector<Line> lines_;
};

}  // namespace nalab::cli
