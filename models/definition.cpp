#include "models/definition.h"

#include <algorithm>
#include <cstddef>

#include "core/error.h"
#include "models/shipped.h"

namespace nalab::models {

namespace {

using yaml::Field;

const Field& require(const Field& mapping, const std::vector<Field>& entries, const char* key) {
  const Field* field = yaml::find(entries, key);
  if (field == nullptr) mapping.refuse(std::string("the key ") + key, "none");
  return *field;
}

std::string text(int64_t number) { return std::to_string(number); }

/// What no single field can tell.
void check(const Definition& d, const Field& mapping, const std::vector<Field>& entries) {
  for (const char* key : {"name", "kind", "depths", "heads", "channels"}) require(mapping, entries, key);
  const std::size_t levels = d.depths.size();
  const auto one_for_each_level = [&](const char* key, std::size_t size) {
    if (size != levels)
      require(mapping, entries, key)
          .refuse("one value for each of the " + text(std::ssize(d.depths)) + " levels of depths");
  };
  one_for_each_level("heads", d.heads.size());
  one_for_each_level("channels", d.channels.size());
  if (!d.dilation.empty()) one_for_each_level("dilation", d.dilation.size());
  for (std::size_t i = 0; i < levels; ++i) {
    if (d.channels[i] % d.heads[i] != 0) {
      require(mapping, entries, "channels").refuse("multiples of the heads " + text(d.heads[i]), text(d.channels[i]));
    }
    if (static_cast<double>(d.channels[i]) * d.mlp_ratio < 1) {
      require(mapping, entries, "channels").complain("must be at least 1 / mlp_ratio, so that an MLP has a channel");
    }
  }
  const auto doubles = [&] {
    return std::ranges::adjacent_find(d.channels, [](int64_t a, int64_t b) { return b != 2 * a; }) == d.channels.end();
  };
  const Field& channels = require(mapping, entries, "channels");
  if ((d.kind == Kind::nat || d.kind == Kind::dinats) && !doubles())
    channels.complain("must double from level to level");
  if (d.kind == Kind::nat && d.channels.front() % 2 != 0) channels.complain("must be even for the first convolution");
  if (d.kind == Kind::isotropic && levels != 1) require(mapping, entries, "depths").refuse("one level");
  if (d.kind == Kind::stylenat) {
    if (d.input != int64_t{4} << (levels - 1)) {
      require(mapping, entries, "input").refuse(text(int64_t{4} << (levels - 1)) + ", 4 doubled from level to level");
    }
    for (std::size_t i = 0; i < levels; ++i) {
      // Positions have sines and cosines for rows and columns, and at least two of each.
      if (d.channels[i] % 8 != 0) channels.refuse("multiples of 8", text(d.channels[i]));
      if (d.heads[i] % 2 != 0)
        require(mapping, entries, "heads").refuse("even values, two halves of heads", text(d.heads[i]));
    }
  }
}

Definition read_definition(const Field& mapping) {
  Definition definition;
  yaml::read(mapping, definition, yaml::Anything{});
  check(definition, mapping, mapping.entries());
  return definition;
}

}  // namespace

std::vector<Definition> parse_definitions(const std::string& file, const std::string& text) {
  constexpr const char* kModels = "models";
  const Field whole = Field::parse(file, text);
  const std::vector<Field> entries = whole.entries();
  yaml::refuse_unknown(entries, {kModels});
  std::vector<Definition> definitions;
  for (const Field& mapping : require(whole, entries, kModels).elements()) {
    definitions.push_back(read_definition(mapping));
  }
  return definitions;
}

const std::vector<Definition>& definitions() {
  static const std::vector<Definition> all = [] {
    std::vector<Definition> list;
    for (const ShippedFile& file : shipped_files()) {
      for (Definition& definition : parse_definitions(file.name, file.text)) list.push_back(std::move(definition));
    }
    return list;
  }();
  return all;
}

const Definition& find_definition(std::string_view name) { return find_definition(definitions(), name); }

const Definition& find_definition(const std::vector<Definition>& list, std::string_view name) {
  const auto found = std::ranges::find(list, name, &Definition::name);
  if (found != list.end()) return *found;
  std::vector<std::string> names;
  for (const Definition& definition : list) names.push_back(definition.name);
  throw Error("unknown model '" + std::string(name) + "', must be one of " + yaml::joined(names));
}

}  // namespace nalab::models
