#include "core/tiling.h"

#include <charconv>

#include "core/error.h"

namespace nalab {

namespace {

constexpr std::string_view kFlat = "flat_";

std::string text_of(const std::array<int64_t, 3>& shape) {
  return std::to_string(shape[0]) + "x" + std::to_string(shape[1]) + "x" + std::to_string(shape[2]);
}

/// Reads a tiling from left to right.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text), rest_(text) {}

  bool skip(std::string_view word) {
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  void expect(std::string_view word) {
    if (!skip(word)) refuse();
  }
  int64_t number() {
    int64_t value = 0;
    const auto [end, code] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (code != std::errc{} || value < 1) refuse();
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return value;
  }
  std::array<int64_t, 3> shape() {
    std::array<int64_t, 3> shape;
    shape[0] = number();
    for (int axis : {1, 2}) {
      expect("x");
      shape[axis] = number();
    }
    return shape;
  }
  void end() const {
    if (!rest_.empty()) refuse();
  }

 private:
  [[noreturn]] void refuse() const {
    throw Error("tiling '" + std::string(text_) + "' must be written as q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256");
  }

  std::string_view text_, rest_;
};

}  // namespace

std::string Tiling::to_string() const {
  return std::string(flat ? kFlat : "") + "q" + text_of(query) + "_s" + text_of(super) + "_kv" + text_of(kv) + "_l" +
         std::to_string(lanes) + "_h" + std::to_string(heads) + "_b" + std::to_string(block_keys);
}

Error cannot_flatten(const Tiling& tiling) {
  return Error("tiling " + tiling.to_string() + ": tokens must lie at one distance from each other to be flattened");
}

Tiling parse_tiling(std::string_view text) {
  Parser parser(text);
  Tiling tiling;
  tiling.flat = parser.skip(kFlat);
  parser.expect("q");
  tiling.query = parser.shape();
  parser.expect("_s");
  tiling.super = parser.shape();
  parser.expect("_kv");
  tiling.kv = parser.shape();
  parser.expect("_l");
  tiling.lanes = parser.number();
  parser.expect("_h");
  tiling.heads = parser.number();
  parser.expect("_b");
  tiling.block_keys = parser.number();
  parser.end();
  return tiling;
}

}  // namespace nalab
