// Columns that tell the rows of a table apart. Shared by the table modules.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace nalab::report {

/// A column about rows of type R. If it is the same for all of them it moves to the caption, or is left out if it is
/// the `usual` one.
template <class R>
struct Trait {
  const char* heading;
  std::function<std::string(const R&)> text;
  bool is_number = false;
  std::string usual = {};
};

/// Takes out the traits that all rows share. Gives a sentence on those of them that are not usual; empty without any.
/// Requires a row.
template <class R>
std::string take_common(std::vector<Trait<R>>& traits, const std::vector<const R*>& rows) {
  std::vector<std::string> common;
  std::vector<Trait<R>> differing;
  for (Trait<R>& trait : traits) {
    std::set<std::string> texts;
    for (const R* row : rows) texts.insert(trait.text(*row));
    if (texts.size() > 1) {
      differing.push_back(std::move(trait));
    } else if (*texts.begin() != trait.usual) {
      common.push_back(fmt::format("{} {}", trait.heading, *texts.begin()));
    }
  }
  traits = std::move(differing);
  return common.empty() ? "" : fmt::format("All rows: {}.", fmt::join(common, ", "));
}

}  // namespace nalab::report
