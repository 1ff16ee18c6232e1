#include "experiments/config/models.h"

#include <filesystem>

#include "core/error.h"
#include "experiments/config/forms.h"

namespace nalab::config {

namespace {

constexpr const char* kModel = "model";

std::optional<std::string> text_of(const std::string& path) {
  try {
    return yaml::read_text(path);
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// Throws at `name` if the model cannot be made.
void check(const Field& name, const ModelSettings& settings) {
  if (!model::why_not_built().empty()) return;
  try {
    model::facts(settings.request(ElementType::f32));
  } catch (const Error& error) {
    name.complain(error.what());
  }
}

}  // namespace

model::Request ModelSettings::request(ElementType type) const {
  return {.name = model,
          .definitions_file = definitions.empty() ? "" : (std::filesystem::path(folder) / definitions).string(),
          .definitions = definitions_text,
          .size = size.value_or(0),
          .batch = batch,
          .relative_bias = relative_bias,
          .training = pass == ModelPass::training_step,
          .type = type};
}

std::vector<ModelSettings> read_models(const Field& entry, Form form, const std::string& folder) {
  const std::vector<Field> entries = entries_in_form(entry, form, keys_of<ModelSettings>());
  const Field* names = find(entries, kModel);
  if (names == nullptr) entry.refuse("the key model", "none");
  std::vector<ModelSettings> models;
  for (const Field& name : names->elements()) {
    ModelSettings& settings = models.emplace_back();
    settings.folder = folder;
    read_fields(overridden(entries, {name}), settings);
    if (settings.label.empty()) settings.label = settings.model;
    settings.definitions_text = text_of(settings.request(ElementType::f32).definitions_file);
    check(name, settings);
  }
  if (const Field* label = find(entries, "label"); label != nullptr && models.size() > 1) {
    label->refuse("no label for several models", "one");
  }
  return models;
}

}  // namespace nalab::config
