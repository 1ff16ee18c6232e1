// Strict reading of YAML: every complaint is one line "FILE:LINE:COLUMN: KEY: expected ..., got ...".
//
// A struct is read through its visit function, S::visit_fields(object, visitor), which calls visitor(key, field, rule)
// once for each field: the same visit that writes it. Keys that are absent leave their field as it is, so reading a
// second mapping over the same object overrides it.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nalab::yaml {

/// Rules that a value must obey, beside having the right type.
struct Anything {};
struct AtLeast {
  double least = 0;
};
struct OneOf {
  std::vector<std::string> names;
};
/// Letters, digits, '_', '-' and '.': fit for a file or group name.
struct Identifier {};
/// A tiling by name or as text (core/plan.h).
struct TilingName {};

/// What the enumerators of E are called in YAML: specialise with a static `list` of (value, name) pairs.
template <class E>
struct Names;

/// "a, b, c"
std::string joined(const std::vector<std::string>& names);

/// What is in a file. Throws Error if it cannot be read, is a directory, or has more than 16 MiB, as a device that
/// never ends has.
std::string read_text(const std::string& path);

/// A value in a YAML file that knows its key and its position.
class Field {
 public:
  Field(std::string file, std::string key, const YAML::Node& node, YAML::Mark mark);
  Field(const Field&) = default;
  Field& operator=(const Field&) = delete;  ///< assigning a YAML::Node changes the document that it is part of

  /// The whole file as a mapping. Throws Error if it cannot be read or is not a single YAML document.
  static Field parse(const std::string& file, const std::string& text);

  const std::string& key() const { return key_; }
  const YAML::Node& node() const { return node_; }

  /// Throws "FILE:LINE:COLUMN: KEY: expected `expected`, got ..." with this value, or with `got` if given.
  [[noreturn]] void refuse(const std::string& expected) const;
  [[noreturn]] void refuse(const std::string& expected, const std::string& got) const;
  /// Throws "FILE:LINE:COLUMN: KEY: `sentence`".
  [[noreturn]] void complain(const std::string& sentence) const;

  /// The values of a mapping in the file's order; refuses anything else, a key that is not text, and a key given twice.
  /// The key << (YAML's merge key) stands for the entries of a mapping, or of a list of them, that the mapping lacks.
  std::vector<Field> entries() const;
  /// The values of a list; refuses an empty one. Any other value stands for a list of one.
  std::vector<Field> elements() const;
  /// Whether the value is plain text without quotes, as numbers and booleans are.
  bool is_plain_scalar() const;

 private:
  std::vector<Field> entries(int& merges_left) const;

  std::string file_;
  std::string key_;
  YAML::Node node_;
  YAML::Mark mark_;
};

void read(const Field& field, int64_t& value, Anything);
void read(const Field& field, int64_t& value, AtLeast rule);
void read(const Field& field, double& value, Anything);
void read(const Field& field, double& value, AtLeast rule);
/// true, false, 1 or 0.
void read(const Field& field, bool& value, Anything);
void read(const Field& field, std::string& value, Anything);
void read(const Field& field, std::string& value, Identifier);
void read(const Field& field, std::string& value, TilingName);
void read(const Field& field, std::string& value, const OneOf& rule);

template <class E>
requires requires { Names<E>::list; }
void read(const Field& field, E& value, Anything) {
  OneOf rule;
  for (const auto& [enumerator, name] : Names<E>::list) rule.names.emplace_back(name);
  std::string text;
  read(field, text, rule);
  for (const auto& [enumerator, name] : Names<E>::list) {
    if (text == name) value = enumerator;
  }
}

template <class T, class Rule>
void read(const Field& field, std::optional<T>& value, const Rule& rule) {
  value.emplace();
  read(field, *value, rule);
}

template <class T, class Rule>
void read(const Field& field, std::vector<T>& values, const Rule& rule) {
  values.clear();
  for (const Field& element : field.elements()) {
    T value{};
    read(element, value, rule);
    values.push_back(std::move(value));
  }
}

/// The keys of a struct, in the order of its visit.
template <class S>
std::vector<std::string> keys_of() {
  std::vector<std::string> keys;
  S object;
  S::visit_fields(object, [&keys](const char* key, auto&, const auto&) { keys.emplace_back(key); });
  return keys;
}

/// Refuses the first entry whose key is unknown.
void refuse_unknown(const std::vector<Field>& entries, const std::vector<std::string>& known);

/// The entry with that key; null if absent.
const Field* find(const std::vector<Field>& entries, std::string_view key);

/// Reads the fields that the entries hold; other keys are ignored.
template <class S>
void read_fields(const std::vector<Field>& entries, S& object) {
  S::visit_fields(object, [&entries](const char* key, auto& value, const auto& rule) {
    if (const Field* field = find(entries, key)) read(*field, value, rule);
  });
}

template <class S>
requires requires(S& object) {
  S::visit_fields(object, [](const char*, auto&, const auto&) {});
}
void read(const Field& field, S& object, Anything) {
  const std::vector<Field> entries = field.entries();
  refuse_unknown(entries, keys_of<S>());
  read_fields(entries, object);
}

}  // namespace nalab::yaml
