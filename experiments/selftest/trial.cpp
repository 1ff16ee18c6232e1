#include "experiments/selftest/trial.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <type_traits>

#include "core/error.h"
#include "core/kernels/registry.h"
#include "core/parallel.h"
#include "core/simd/arithmetic.h"

namespace nalab::selftest {

namespace {

template <class Number>
Number parse_number(std::string_view field, std::string_view text, Number low, Number high) {
  Number value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size() || value < low || value > high) {
    throw Error(std::string(field) + " '" + std::string(text) + "' must be a number from " + std::to_string(low) +
                " to " + std::to_string(high));
  }
  return value;
}

std::string number_text(double x) {
  std::array<char, 32> text;
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), x).ptr};
}

constexpr std::array<std::string_view, 4> kValueNames{"normal", "equal", "tiny", "non_finite"};

template <class Names>
std::size_t parse_name(std::string_view field, std::string_view text, const Names& names) {
  const auto found = std::ranges::find(names, text);
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + std::string(name);
  throw Error(std::string(field) + " '" + std::string(text) + "' is none of " + list);
}

/// The pieces of a text between separators.
std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  while (true) {
    const std::size_t end = text.find(separator);
    pieces.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return pieces;
    text.remove_prefix(end + 1);
  }
}

std::string to_text(const std::map<std::string, Placement>& placements) {
  std::string text;
  for (const auto& [tensor, placement] : placements) {
    text += (text.empty() ? "" : ",") + tensor + ":" + std::to_string(placement.gaps) + ":" +
            std::to_string(placement.order);
  }
  return text;
}

std::map<std::string, Placement> parse_placements(std::string_view field, std::string_view text) {
  std::map<std::string, Placement> placements;
  for (const std::string_view piece : split(text, ',')) {
    const auto parts = split(piece, ':');
    if (parts.size() != 3) {
      throw Error(std::string(field) + " '" + std::string(piece) + "' must be written as TENSOR:GAPS:ORDER");
    }
    placements[std::string(parts[0])] = {parse_number(field, parts[1], 0u, kAllGaps),
                                         parse_number(field, parts[2], 0, kOrders - 1)};
  }
  return placements;
}

std::string to_text(const std::vector<int>& threads) {
  std::string text;
  for (const int count : threads) text += (text.empty() ? "" : ",") + std::to_string(count);
  return text;
}

std::vector<int> parse_threads(std::string_view field, std::string_view text) {
  std::vector<int> threads;
  for (const std::string_view piece : split(text, ',')) threads.push_back(parse_number(field, piece, 1, kMaxThreads));
  return threads;
}

/// One word of the text.
struct Field {
  std::string_view name;
  std::string (*text)(const Trial& trial);  ///< empty: it is left out
  void (*set)(Trial& trial, std::string_view field, std::string_view text);
};

template <auto Member>
constexpr Field axis_field(std::string_view name) {
  return {name, [](const Trial& t) { return extents_text(per_axis(t.problem, Member)); },
          [](Trial& t, std::string_view field, std::string_view text) {
            const std::vector<int64_t> values = parse_extents(field, text);
            if (values.size() != t.problem.axes.size()) {
              throw Error(std::string(field) + " '" + std::string(text) +
                          "' must have a number for each axis of the layout");
            }
            for (std::size_t i = 0; i < values.size(); ++i) {
              auto& value = t.problem.axes[i].*Member;
              value = static_cast<std::remove_reference_t<decltype(value)>>(values[i]);
              if (value != values[i]) throw Error(std::string(field) + " '" + std::string(text) + "' must be 0 or 1");
            }
          }};
}

constexpr int64_t kMostOfAll = int64_t{1} << 40;

template <int64_t Problem::*Member>
constexpr Field problem_field(std::string_view name) {
  return {name, [](const Trial& t) { return std::to_string(t.problem.*Member); },
          [](Trial& t, std::string_view field, std::string_view text) {
            t.problem.*Member = parse_number<int64_t>(field, text, 0, kMostOfAll);
          }};
}

template <std::string Trial::*Member>
constexpr Field name_field(std::string_view name) {
  return {name, [](const Trial& t) { return t.*Member; },
          [](Trial& t, std::string_view, std::string_view text) { t.*Member = text; }};
}

constexpr std::string_view kF32 = "f32", kOfTheProblem = "problem";

template <bool Trial::*Member>
constexpr Field type_field(std::string_view name) {
  return {name, [](const Trial& t) { return std::string(t.*Member ? kF32 : kOfTheProblem); },
          [](Trial& t, std::string_view field, std::string_view text) {
            t.*Member = parse_name(field, text, std::array{kF32, kOfTheProblem}) == 0;
          }};
}

const std::array kFields{
    Field{"layout", [](const Trial& t) { return layout_text(t.problem); },
          [](Trial& t, std::string_view field, std::string_view text) {
            for (const int64_t extent : parse_extents(field, text)) t.problem.axes.push_back({.extent = extent});
          }},
    axis_field<&Axis::window>("window"),
    axis_field<&Axis::stride>("stride"),
    axis_field<&Axis::dilation>("dilation"),
    axis_field<&Axis::causal>("causal"),
    problem_field<&Problem::batch>("batch"),
    problem_field<&Problem::heads>("heads"),
    problem_field<&Problem::heads_kv>("heads_kv"),
    problem_field<&Problem::head_dim>("head_dim"),
    problem_field<&Problem::head_dim_v>("head_dim_v"),
    problem_field<&Problem::extra_tokens>("extra_tokens"),
    Field{"relative_bias", [](const Trial& t) { return std::to_string(t.problem.relative_bias ? 1 : 0); },
          [](Trial& t, std::string_view field, std::string_view text) {
            t.problem.relative_bias = parse_number(field, text, 0, 1) == 1;
          }},
    Field{"scale", [](const Trial& t) { return t.problem.scale ? number_text(*t.problem.scale) : ""; },
          [](Trial& t, std::string_view field, std::string_view text) {
            double scale = 0;
            const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), scale);
            if (code != std::errc{} || end != text.data() + text.size()) {
              throw Error(std::string(field) + " '" + std::string(text) + "' must be a number");
            }
            t.problem.scale = scale;
          }},
    Field{"type", [](const Trial& t) { return std::string(name(t.problem.type)); },
          [](Trial& t, std::string_view, std::string_view text) { t.problem.type = parse_element_type(text); }},
    Field{"pass", [](const Trial& t) { return std::string(name(t.pass)); },
          [](Trial& t, std::string_view, std::string_view text) { t.pass = parse_pass(text); }},
    name_field<&Trial::variant>("variant"),
    Field{"isa", [](const Trial& t) { return std::string(name(t.isa)); },
          [](Trial& t, std::string_view, std::string_view text) { t.isa = parse_isa(text); }},
    name_field<&Trial::arithmetic>("arithmetic"),
    name_field<&Trial::tiling>("tiling"),
    Field{"threads", [](const Trial& t) { return to_text(t.threads); },
          [](Trial& t, std::string_view field, std::string_view text) { t.threads = parse_threads(field, text); }},
    type_field<&Trial::results_are_f32>("results"),
    type_field<&Trial::weights_are_f32>("weights"),
    Field{"values", [](const Trial& t) { return std::string(kValueNames[static_cast<std::size_t>(t.values)]); },
          [](Trial& t, std::string_view field, std::string_view text) {
            t.values = static_cast<Values>(parse_name(field, text, kValueNames));
          }},
    Field{"seed", [](const Trial& t) { return std::to_string(t.seed); },
          [](Trial& t, std::string_view field, std::string_view text) {
            t.seed = parse_number<int64_t>(field, text, 0, std::numeric_limits<int64_t>::max());
          }},
    Field{
        "views", [](const Trial& t) { return to_text(t.placements); },
        [](Trial& t, std::string_view field, std::string_view text) { t.placements = parse_placements(field, text); }},
};

bool always_said(const Field& field) {
  return field.name == "layout" || field.name == "variant" || field.name == "isa";
}

/// The trial that a text starts from: all defaults, but for the rank.
Trial plain(int rank) {
  Trial trial;
  trial.problem.axes.resize(static_cast<std::size_t>(rank));
  return trial;
}

}  // namespace

Placement Trial::placement(std::string_view tensor) const {
  const auto found = placements.find(std::string(tensor));
  return found == placements.end() ? Placement{} : found->second;
}

std::string to_text(const Trial& trial) {
  const Trial defaults = plain(trial.problem.rank());
  std::string text;
  for (const Field& field : kFields) {
    const std::string value = field.text(trial);
    if (value.empty() || (!always_said(field) && value == field.text(defaults))) continue;
    text += (text.empty() ? "" : " ") + std::string(field.name) + "=" + value;
  }
  return text;
}

Trial parse_trial(std::string_view text) {
  std::array<std::string_view, kFields.size()> names;
  std::ranges::transform(kFields, names.begin(), [](const Field& field) { return field.name; });
  std::array<std::string_view, kFields.size()> values;
  for (const std::string_view word : split(text, ' ')) {
    if (word.empty()) continue;
    const std::size_t equals = word.find('=');
    if (equals == std::string_view::npos) throw Error("'" + std::string(word) + "' must be written as FIELD=VALUE");
    values[parse_name("field", word.substr(0, equals), names)] = word.substr(equals + 1);
  }
  Trial trial;
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    if (!values[i].empty()) {
      kFields[i].set(trial, kFields[i].name, values[i]);
    } else if (kFields[i].name == "layout" || kFields[i].name == "variant") {
      throw Error(std::string(kFields[i].name) + " is missing");
    }
  }
  trial.problem.validate();
  find_variant(trial.variant);
  if (!trial.arithmetic.empty()) find_arithmetic(trial.arithmetic);
  return trial;
}

}  // namespace nalab::selftest
