// What a table is, apart from how it is written: modules make tables, renderers write them.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace nalab::report {

struct Column {
  std::string heading;
  std::string group = {};  ///< heading over several neighbouring columns, such as a variant's name; may be empty
  bool is_number = false;  ///< set flush right
};

struct Cell {
  std::string text;
  int footnote = 0;  ///< number of the footnote that explains the cell, counted from 1; 0 for none
};

/// Lines for programs: one record per measurement, numbers in full precision.
struct Records {
  std::vector<std::string> fields;
  std::vector<std::vector<std::string>> lines;
};

/// A table for people. All texts are plain: renderers escape what their format asks for.
struct Table {
  std::string name;                  ///< of its files: letters, digits, '_', '-' and '.'
  std::string title;                 ///< a few words
  std::vector<std::string> caption;  ///< sentences: machine, types, samples, how the figures are made
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;  ///< each as long as columns
  std::vector<std::string> footnotes;
  Records records;         ///< what the CSV file holds; without fields there is no such file
  bool is_detail = false;  ///< for a closer look: the page shows it folded

  /// Number of the footnote with this text, which is added if it is new.
  int footnote(const std::string& text);
};

/// What a table says of a row in one column.
struct Value {
  std::string text;           ///< for people
  std::string exact = {};     ///< for programs, in full precision; empty if there is no such figure
  std::string footnote = {};  ///< explains the text; may be empty
};

/// A text that people and programs read alike.
Value plain(const std::string& text);

/// A figure that is not there, with the reason.
Value absent(const std::string& why);

/// A column of a table about rows of type R: for people, for programs or for both.
template <class R>
struct ColumnOf {
  Column shown;       ///< without a heading: in the records only
  std::string field;  ///< of the records; empty: shown only
  std::function<Value(const R&)> value;
};

/// Adds columns and rows to a table, fields and lines to its records.
template <class R>
void fill(Table& table, const std::vector<ColumnOf<R>>& columns, const std::vector<R>& rows) {
  bool has_cells = false, has_fields = false;
  for (const ColumnOf<R>& column : columns) {
    if (!column.shown.heading.empty()) table.columns.push_back(column.shown), has_cells = true;
    if (!column.field.empty()) table.records.fields.push_back(column.field), has_fields = true;
  }
  for (const R& row : rows) {
    std::vector<Cell> cells;
    std::vector<std::string> line;
    for (const ColumnOf<R>& column : columns) {
      const Value value = column.value(row);
      if (!column.shown.heading.empty())
        cells.push_back({value.text, value.footnote.empty() ? 0 : table.footnote(value.footnote)});
      if (!column.field.empty()) line.push_back(value.exact);
    }
    if (has_cells) table.rows.push_back(std::move(cells));
    if (has_fields) table.records.lines.push_back(std::move(line));
  }
}

}  // namespace nalab::report
