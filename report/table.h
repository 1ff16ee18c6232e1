// What a table is, apart from how it is written: table modules make tables, renderers write them.
#pragma once

#include <string>
#include <vector>

namespace nalab::report {

struct Column {
  std::string heading;
  std::string group;       ///< heading over several neighbouring columns, such as a variant's name; may be empty
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

  /// Number of the footnote with this text, which is added where it is new.
  int footnote(const std::string& text);
};

}  // namespace nalab::report
