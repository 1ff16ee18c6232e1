// Which names, and which rows of results, a regular expression picks.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "store/schema.h"

namespace re2 {
class RE2;
}

namespace nalab {

/// A regular expression in RE2's syntax: as in Perl, without what would need backtracking (back references, looking
/// ahead and behind). Matching takes time in proportion to the text.
class Filter {
 public:
  /// Throws Error that names the option, the expression and what is wrong with it if it is none, or too long.
  Filter(std::string_view option, std::string expression);
  ~Filter();
  Filter(Filter&&) noexcept;

  /// Whether the text contains a match. An empty expression matches every text.
  bool matches(std::string_view text) const;
  const std::string& expression() const { return expression_; }

 private:
  std::string expression_;
  std::unique_ptr<re2::RE2> compiled_;
};

/// What is kept beside the rows that match.
enum class AlsoKept {
  nothing,
  self_attention,  ///< the rows that speedups of the others are relative to
};

/// Keeps the rows, models and simulations of results whose id or label contains a match. Returns how many match.
int64_t keep_matching(store::Results& results, const Filter& filter, AlsoKept also = AlsoKept::nothing);

}  // namespace nalab
