// Numbers as texts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nalab::report {

/// `digits` significant digits without an exponent: 12.3, 0.0456, 1235.
std::string significant(double value, int digits);

/// The shortest text that reads back as the same number.
std::string exact(double value);
std::string exact(int64_t value);
std::string exact(const std::string& value);

/// Whether all numbers of a row's field, such as a stride of "1x1x1", are this one. Throws as parse_extents does.
bool is_everywhere(int64_t value, std::string_view field, std::string_view text);

/// What a row's pass is called: "forward", "forward + backward", "weights, backward", "training step".
std::string pass_text(std::string_view pass);

/// "a", "a and b", "a, b and c"
template <class Texts>
std::string enumerate(const Texts& texts) {
  std::string result;
  std::size_t left = texts.size();
  for (const std::string& text : texts) {
    result += text;
    --left;
    if (left > 0) result += left == 1 ? " and " : ", ";
  }
  return result;
}

}  // namespace nalab::report
