#include "experiments/config/where.h"

#include <array>
#include <cctype>
#include <charconv>
#include <string>

#include "core/error.h"

namespace nalab::config {

namespace {

/// A limit, so that no text can overflow the stack by nesting.
constexpr std::size_t kLongest = 1000;

/// Reads a condition from left to right and evaluates it on the way, for one axis.
class Evaluator {
 public:
  Evaluator(std::string_view text, const Problem& problem, const Axis& axis)
      : text_(text), problem_(problem), axis_(axis) {}

  bool condition() {
    const int64_t left = sum();
    const std::string_view comparison = take_one_of({"<=", ">=", "==", "!=", "<", ">"});
    if (comparison.empty()) refuse("a comparison (<=, <, >=, >, ==, !=)");
    const int64_t right = sum();
    if (!rest().empty()) refuse("the end");
    if (comparison == "<=") return left <= right;
    if (comparison == ">=") return left >= right;
    if (comparison == "==") return left == right;
    if (comparison == "!=") return left != right;
    return comparison == "<" ? left < right : left > right;
  }

 private:
  int64_t sum() {
    int64_t result = product();
    for (;;) {
      const std::string_view sign = take_one_of({"+", "-"});
      if (sign.empty()) return result;
      const int64_t operand = product();
      const bool overflow = sign == "+" ? __builtin_add_overflow(result, operand, &result)
                                        : __builtin_sub_overflow(result, operand, &result);
      if (overflow) throw Error("expected values that fit in 64 bits, got greater ones");
    }
  }

  int64_t product() {
    int64_t result = value();
    for (;;) {
      const std::string_view sign = take_one_of({"*", "/", "%"});
      if (sign.empty()) return result;
      const int64_t operand = value();
      if (sign == "*") {
        result = multiply(result, operand);
      } else if (operand < 1) {
        throw Error("expected a divisor of at least 1, got " + std::to_string(operand));
      } else {
        result = sign == "/" ? result / operand : result % operand;
      }
    }
  }

  int64_t value() {
    if (!take_one_of({"("}).empty()) {
      const int64_t result = sum();
      if (take_one_of({")"}).empty()) refuse("')'");
      return result;
    }
    const std::string_view word = take_word();
    int64_t number = 0;
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (!word.empty() && code == std::errc{} && end == word.data() + word.size()) return number;
    if (word == "tokens") return over_axes(&Axis::extent);
    if (word == "keys") return over_axes(&Axis::window);
    const std::array<std::pair<std::string_view, int64_t>, 13> names{{{"layout", axis_.extent},
                                                                      {"window", axis_.window},
                                                                      {"stride", axis_.stride},
                                                                      {"dilation", axis_.dilation},
                                                                      {"causal", axis_.causal},
                                                                      {"batch", problem_.batch},
                                                                      {"heads", problem_.heads},
                                                                      {"heads_kv", problem_.heads_kv},
                                                                      {"head_dim", problem_.head_dim},
                                                                      {"head_dim_v", problem_.head_dim_v},
                                                                      {"extra_tokens", problem_.extra_tokens},
                                                                      {"relative_bias", problem_.relative_bias},
                                                                      {"rank", problem_.rank()}}};
    std::string known;
    for (const auto& [name, meaning] : names) {
      if (word == name) return meaning;
      known += std::string(name) + ", ";
    }
    at_ -= word.size();
    refuse("an integer, '(' or one of " + known + "tokens, keys");
  }

  int64_t over_axes(int64_t Axis::*value) {
    int64_t result = 1;
    for (const Axis& axis : problem_.axes) result = multiply(result, axis.*value);
    return result;
  }

  static int64_t multiply(int64_t a, int64_t b) {
    int64_t result = 0;
    if (__builtin_mul_overflow(a, b, &result)) throw Error("expected values that fit in 64 bits, got greater ones");
    return result;
  }

  std::string_view rest() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    return text_.substr(at_);
  }

  std::string_view take_one_of(std::initializer_list<std::string_view> tokens) {
    for (std::string_view token : tokens) {
      if (rest().starts_with(token)) {
        at_ += token.size();
        return token;
      }
    }
    return {};
  }

  std::string_view take_word() {
    const std::string_view from = rest();
    std::size_t size = 0;
    while (size < from.size() && (std::isalnum(static_cast<unsigned char>(from[size])) || from[size] == '_')) ++size;
    at_ += size;
    return from.substr(0, size);
  }

  [[noreturn]] void refuse(const std::string& expected) {
    const std::string_view remaining = rest();
    throw Error("expected " + expected + ", got " +
                (remaining.empty() ? "the end" : "'" + std::string(remaining) + "'") + " in '" + std::string(text_) +
                "'");
  }

  std::string_view text_;
  std::size_t at_ = 0;
  const Problem& problem_;
  const Axis& axis_;
};

}  // namespace

bool holds(std::string_view condition, const Problem& problem) {
  if (condition.size() > kLongest) {
    throw Error("expected a condition of at most " + std::to_string(kLongest) + " characters, got " +
                std::to_string(condition.size()));
  }
  bool all = true;
  for (const Axis& axis : problem.axes) all = Evaluator(condition, problem, axis).condition() && all;
  return all;
}

}  // namespace nalab::config
