#include "cli/options.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <filesystem>
#include <functional>
#include <system_error>
#include <type_traits>

#include "core/error.h"
#include "core/parallel.h"

namespace nalab::cli {

namespace {

/// Throws CLI::ValidationError unless the whole text is a number.
template <class T>
T parse(const std::string& name, const std::string& text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, value);
  if (code == std::errc::result_out_of_range && stop == end) {
    throw CLI::ValidationError(fmt::format("{} '{}' is out of range", name, text));
  }
  if (code != std::errc{} || stop != end) {
    throw CLI::ValidationError(
        fmt::format("{} '{}' must be a {}", name, text,
                    std::is_integral_v<T> ? "whole number in decimal digits" : "number, such as 0.5"));
  }
  return value;
}

int parse_threads(const std::string& text) {
  const int threads = parse<int>("--threads", text);
  if (threads < 1 || threads > kMaxThreads) {
    throw CLI::ValidationError(fmt::format("--threads {} must be from 1 to {}", threads, kMaxThreads));
  }
  return threads;
}

/// What is wrong with a number that does not compare with 0 as it must. A text that is none gets its complaint when it
/// is read.
std::string complaint(const std::string& text, const auto& compares, const char* rule) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, value);
  const bool is_number = code == std::errc{} && stop == end;
  if (!is_number || (std::isfinite(value) && compares(value, 0))) return "";
  return fmt::format("must be a number {}, got '{}'", rule, text);
}

/// An option for a T, which is assigned to `value`.
template <class T, class Value>
CLI::Option* add(CLI::App& command, const std::string& name, Value& value, const std::string& description) {
  const auto read = [&value, name](const CLI::results_t& texts) {
    value = parse<T>(name, texts.front());
    return true;
  };
  CLI::Option* option = command.add_option(name, CLI::callback_t(read), description);
  if constexpr (std::is_same_v<T, Value>) option->default_function([&value] { return fmt::format("{}", value); });
  return option->type_name(std::is_integral_v<T> ? "INT" : "FLOAT");
}

}  // namespace

CLI::Option* add_number(CLI::App& command, const std::string& name, int& value, const std::string& description) {
  return add<int>(command, name, value, description);
}
CLI::Option* add_number(CLI::App& command, const std::string& name, int64_t& value, const std::string& description) {
  return add<int64_t>(command, name, value, description);
}
CLI::Option* add_number(CLI::App& command, const std::string& name, double& value, const std::string& description) {
  return add<double>(command, name, value, description);
}
CLI::Option* add_number(CLI::App& command, const std::string& name, std::optional<double>& value,
                        const std::string& description) {
  return add<double>(command, name, value, description);
}

CLI::Option* add_number(CLI::App& command, const std::string& name, std::optional<uint64_t>& value,
                        const std::string& description) {
  return add<uint64_t>(command, name, value, description);
}

CLI::Option* add_threads(CLI::App& command, int& threads) {
  const auto read = [&threads](const CLI::results_t& texts) {
    threads = parse_threads(texts.front());
    return true;
  };
  return command.add_option("--threads", CLI::callback_t(read), "Threads (default: NALAB_THREADS, else all)")
      ->type_name("INT");
}

CLI::Option* add_threads(CLI::App& command, std::vector<int>& threads, const std::string& description) {
  const auto read = [&threads](const CLI::results_t& texts) {
    threads.clear();
    for (const std::string& text : texts) threads.push_back(parse_threads(text));
    return true;
  };
  return command.add_option("--threads", CLI::callback_t(read), description)
      ->type_name("INT,...")
      ->expected(1, CLI::detail::expected_max_vector_size)
      ->allow_extra_args(false)
      ->delimiter(',');
}

CLI::Option* add_filter(CLI::App& command, std::string& filter) {
  return command.add_option("--filter", filter, "Only rows whose id or label matches this regular expression");
}

void require_another_file(const std::string& output, const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs) {
    std::error_code not_there;
    if (std::filesystem::equivalent(input, output, not_there)) {
      throw Error(output + ": is the input file; the output must be another file");
    }
  }
}

CLI::Validator positive() {
  return CLI::Validator([](const std::string& text) { return complaint(text, std::greater<>(), "above 0"); }, "");
}

CLI::Validator not_negative() {
  return CLI::Validator(
      [](const std::string& text) { return complaint(text, std::greater_equal<>(), "of at least 0"); }, "");
}

CLI::Validator not_empty() {
  return CLI::Validator([](const std::string& name) { return name.empty() ? "must not be empty" : ""; }, "");
}

}  // namespace nalab::cli
