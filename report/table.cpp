#include "report/table.h"

#include <algorithm>

namespace nalab::report {

int Table::footnote(const std::string& text) {
  auto found = std::find(footnotes.begin(), footnotes.end(), text);
  if (found == footnotes.end()) found = footnotes.insert(footnotes.end(), text);
  return static_cast<int>(found - footnotes.begin()) + 1;
}

Value plain(const std::string& text) { return {text, text}; }

Value absent(const std::string& why) { return {"n/a", "", why}; }

}  // namespace nalab::report
