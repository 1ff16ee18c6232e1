// The formats of a table. Each function gives the same bytes for the same table.
#pragma once

#include <string>

#include "report/table.h"

namespace nalab::report {

/// A section: title, caption, table, numbered footnotes.
std::string to_markdown(const Table& table);

/// The records, quoted if RFC 4180 asks for it, lines ended by "\n"; empty for a table without records.
std::string to_csv(const Table& table);

/// A longtable for packages booktabs and longtable, to be read by \input.
std::string to_latex(const Table& table);

/// A text as Markdown sets it.
std::string escape_markdown(const std::string& text);

/// A text as LaTeX sets it.
std::string escape_latex(const std::string& text);

}  // namespace nalab::report
