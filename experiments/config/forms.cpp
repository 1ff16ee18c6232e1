#include "experiments/config/forms.h"

namespace nalab::config {

namespace {

constexpr const char* kQuick = "quick";

}  // namespace

std::vector<Field> overridden(const std::vector<Field>& entries, const std::vector<Field>& overrides) {
  std::vector<Field> result;
  for (const Field& entry : entries) {
    const Field* override_entry = find(overrides, entry.key());
    result.push_back(override_entry == nullptr ? entry : *override_entry);
  }
  for (const Field& override_entry : overrides) {
    if (find(entries, override_entry.key()) == nullptr) result.push_back(override_entry);
  }
  return result;
}

std::vector<Field> entries_in_form(const Field& mapping, Form form, const std::vector<std::string>& known) {
  std::vector<std::string> known_outside = known;
  known_outside.emplace_back(kQuick);
  std::vector<Field> entries = mapping.entries();
  refuse_unknown(entries, known_outside);
  if (form == Form::full) return entries;
  const Field* quick = find(entries, kQuick);
  if (quick == nullptr) return entries;
  const std::vector<Field> overrides = quick->entries();
  refuse_unknown(overrides, known);
  return overridden(entries, overrides);
}

}  // namespace nalab::config
