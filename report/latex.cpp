#include <fmt/format.h>

#include <cctype>

#include "report/render.h"

namespace nalab::report {
namespace {

std::string line(const std::vector<std::string>& cells) { return fmt::format("{} \\\\\n", fmt::join(cells, " & ")); }

/// The line of group headings with a rule under each; empty without groups.
std::string group_lines(const std::vector<Column>& columns) {
  std::vector<std::string> cells;
  std::string rules;
  for (std::size_t begin = 0, end = 0; begin < columns.size(); begin = end) {
    const std::string& group = columns[begin].group;
    end = begin + 1;
    while (end < columns.size() && columns[end].group == group) ++end;
    cells.push_back(fmt::format("\\multicolumn{{{}}}{{c}}{{{}}}", end - begin, escape_latex(group)));
    if (!group.empty()) rules += fmt::format("\\cmidrule(lr){{{}-{}}}", begin + 1, end);
  }
  return rules.empty() ? "" : line(cells) + rules + "\n";
}

/// A label is for \ref: letters and digits only are safe everywhere.
std::string label(const std::string& name) {
  std::string result;
  for (char c : name) result += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '-';
  return result;
}

}  // namespace

std::string escape_latex(const std::string& text) {
  std::string result;
  for (char c : text) {
    switch (c) {
      case '\\':
        result += "\\textbackslash{}";
        break;
      case '\n':
      case '\r':
        // An empty line would end the paragraph.
        result += ' ';
        break;
      case '~':
        result += "\\textasciitilde{}";
        break;
      case '^':
        result += "\\textasciicircum{}";
        break;
      case '<':
        result += "\\textless{}";
        break;
      case '>':
        result += "\\textgreater{}";
        break;
      case '|':
        result += "\\textbar{}";
        break;
      case '"':
        result += "\\textquotedbl{}";
        break;
      case '[':
      case ']':
        // In braces, since after "\\" a bracket would begin an argument.
        result += fmt::format("{{{}}}", c);
        break;
      case '&':
      case '%':
      case '$':
      case '#':
      case '_':
      case '{':
      case '}':
        result += '\\';
        [[fallthrough]];
      default:
        result += c;
    }
  }
  return result;
}

std::string to_latex(const Table& table) {
  std::string alignment;
  std::vector<std::string> headings;
  for (const Column& column : table.columns) {
    alignment += column.is_number ? 'r' : 'l';
    headings.push_back(escape_latex(column.heading));
  }
  std::string caption = escape_latex(table.title) + ".";
  for (const std::string& sentence : table.caption) caption += "\n  " + escape_latex(sentence);

  const std::string head = "\\toprule\n" + group_lines(table.columns) + line(headings) + "\\midrule\n";
  std::string text = fmt::format("\\begin{{longtable}}{{@{{}}{}@{{}}}}\n", alignment);
  text +=
      fmt::format("\\caption[{}]{{{}}}\\label{{tab:{}}}\\\\\n", escape_latex(table.title), caption, label(table.name));
  text += head + "\\endfirsthead\n" + head + "\\endhead\n\\bottomrule\n\\endfoot\n";
  for (const auto& row : table.rows) {
    std::vector<std::string> cells;
    for (const Cell& cell : row) {
      cells.push_back(escape_latex(cell.text) +
                      (cell.footnote > 0 ? fmt::format("\\textsuperscript{{{}}}", cell.footnote) : ""));
    }
    text += line(cells);
  }
  text += "\\end{longtable}\n";
  for (std::size_t i = 0; i < table.footnotes.size(); ++i) {
    text += fmt::format("\\noindent{{\\footnotesize {}. {}\\par}}\n", i + 1, escape_latex(table.footnotes[i]));
  }
  return text;
}

}  // namespace nalab::report
