#include "experiments/config/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>

#include "core/error.h"
#include "core/kernels/registry.h"
#include "experiments/config/problems.h"

namespace nalab::config {

namespace {

namespace fs = std::filesystem;

/// Rules between the fields of timing, which the mapping `entries` may have changed.
void check_timing(const Timing& t, const std::vector<Field>& entries) {
  const Field* timing = find(entries, "timing");
  if (timing == nullptr) return;
  if (t.max_samples < t.min_samples) {
    timing->complain(fmt::format("max_samples {} must be at least {}, min_samples", t.max_samples, t.min_samples));
  }
  if (t.max_seconds < t.min_seconds) {
    timing->complain(fmt::format("max_seconds {} must be at least {}, min_seconds", t.max_seconds, t.min_seconds));
  }
}

/// All variants are those of the device, or of those that are here if none is named.
void expand_all(std::vector<std::string>& variants, std::optional<Device> device = {}) {
  if (std::find(variants.begin(), variants.end(), kAllVariants) == variants.end()) return;
  variants.clear();
  for (const Variant& variant : nalab::variants()) {
    const bool is_wanted = device ? variant.device == *device : !why_not_here(variant.device);
    if (is_wanted) variants.emplace_back(variant.name);
  }
}

/// A run on a device must have a variant there.
void check_devices(const Settings& settings, const Field& runs) {
  for (std::size_t i = 0; i < settings.runs.size(); ++i) {
    const Run& run = settings.runs[i];
    const std::vector<std::string>& variants = run.variants.empty() ? settings.variants : run.variants;
    if (!run.device || variants.empty()) continue;
    const bool has_one = std::ranges::any_of(variants, [&](const std::string& name) {
      return name == kAllVariants || find_variant(name).device == *run.device;
    });
    const std::vector<Field> keys = runs.elements()[i].entries();
    if (!has_one) find(keys, "device")->refuse("the device of one of the run's variants");
  }
}

/// The labels that runs ask for must be those of problems or models.
void check_labels(const Config& config, const Field& runs) {
  for (const Field& run : runs.elements()) {
    const std::vector<Field> keys = run.entries();
    const Field* labels = find(keys, "labels");
    if (labels == nullptr) continue;
    for (const Field& label : labels->elements()) {
      std::string text;
      read(label, text, Anything{});
      const bool is_there =
          std::ranges::find(config.problems, text, &ProblemSettings::label) != config.problems.end() ||
          std::ranges::find(config.models, text, &ModelSettings::label) != config.models.end();
      if (!is_there) label.refuse("the label of a problem or model");
    }
  }
}

/// The top level of a file, whose keys are those of Title and Settings, and a few more.
Config read_config(const Field& root, Form form, const std::string& folder) {
  std::vector<std::string> known = keys_of<Title>();
  for (const std::string& key : keys_of<Settings>()) known.push_back(key);
  for (const char* key : {"quick", "problems", "grids", "models", "simulations"}) known.emplace_back(key);
  const std::vector<Field> entries = root.entries();
  refuse_unknown(entries, known);

  Config config;
  read_fields(entries, config.title);
  if (config.title.name.empty()) root.refuse("the key name", "none");
  read_fields(entries, config.settings);
  check_timing(config.settings.timing, entries);
  std::vector<Field> overrides;
  if (const Field* quick = find(entries, "quick"); quick != nullptr && form == Form::quick) {
    read(*quick, config.settings, Anything{});
    overrides = quick->entries();
    check_timing(config.settings.timing, overrides);
  }
  const Field* runs = find(overrides, "runs");
  if (runs == nullptr) runs = find(entries, "runs");
  if (runs != nullptr) check_devices(config.settings, *runs);
  for (Run& run : config.settings.runs) {
    if (run.device && run.variants.empty()) run.variants = config.settings.variants;
    expand_all(run.variants, run.device);
  }
  expand_all(config.settings.variants);

  if (const Field* problems = find(entries, "problems")) {
    for (const Field& entry : problems->elements()) config.problems.push_back(read_problem(entry, form));
  }
  if (const Field* grids = find(entries, "grids")) {
    for (const Field& entry : grids->elements()) {
      for (ProblemSettings& settings : read_grid(entry, form)) config.problems.push_back(std::move(settings));
    }
  }
  if (const Field* models = find(entries, "models")) {
    for (const Field& entry : models->elements()) {
      for (ModelSettings& settings : read_models(entry, form, folder)) config.models.push_back(std::move(settings));
    }
  }
  if (runs != nullptr) check_labels(config, *runs);
  const bool all_named =
      std::ranges::none_of(config.settings.runs, [](const Run& run) { return run.variants.empty(); });
  const bool needs_variants = !config.problems.empty() || !config.models.empty();
  if (needs_variants && config.settings.variants.empty() && !all_named) {
    root.refuse("the key variants", "none");
  }
  if (const Field* simulations = find(entries, "simulations")) {
    for (const Field& entry : simulations->elements()) {
      for (SimulationSettings& settings : read_simulations(entry)) {
        if (settings.table.empty()) settings.table = config.title.table;
        config.simulations.push_back(std::move(settings));
      }
    }
  }
  if (config.problems.empty() && config.models.empty() && config.simulations.empty()) {
    root.refuse("the key problems, grids, models or simulations", "none");
  }
  return config;
}

void emit(YAML::Emitter& out, int64_t value) { out << value; }
void emit(YAML::Emitter& out, bool value) { out << value; }
void emit(YAML::Emitter& out, const std::string& value) { out << value; }
/// The shortest text that reads back as the same number.
void emit(YAML::Emitter& out, double value) { out << fmt::format("{}", value); }

template <class E>
requires requires { Names<E>::list; }
void emit(YAML::Emitter& out, E value) { out << std::string(name(value)); }

template <class S>
void emit_fields(YAML::Emitter& out, const S& object);

template <class S>
requires requires(const S& object) {
  S::visit_fields(object, [](const char*, const auto&, const auto&) {});
}
void emit(YAML::Emitter& out, const S& object) {
  out << YAML::Flow << YAML::BeginMap;
  emit_fields(out, object);
  out << YAML::EndMap;
}

template <class T>
void emit(YAML::Emitter& out, const std::vector<T>& values) {
  out << YAML::Flow << YAML::BeginSeq;
  for (const T& value : values) emit(out, value);
  out << YAML::EndSeq;
}

/// The list under a key of the top level; nothing for an empty list.
template <class S>
void emit_list(YAML::Emitter& out, const char* key, const std::vector<S>& list) {
  if (list.empty()) return;
  out << YAML::Key << key << YAML::Value << YAML::BeginSeq;
  for (const S& element : list) emit(out, element);
  out << YAML::EndSeq;
}

template <class T>
constexpr bool kIsList = false;
template <class T>
constexpr bool kIsList<std::vector<T>> = true;

/// Unset fields and empty lists are left out: without them, reading gives the same.
template <class S>
void emit_fields(YAML::Emitter& out, const S& object) {
  const auto emit_entry = [&out](const char* key, const auto& value) {
    out << YAML::Key << key << YAML::Value;
    emit(out, value);
  };
  S::visit_fields(object, [&]<class T>(const char* key, const T& value, const auto&) {
    if constexpr (requires { value.has_value(); }) {
      if (value) emit_entry(key, *value);
    } else if constexpr (kIsList<T>) {
      if (!value.empty()) emit_entry(key, value);
    } else {
      emit_entry(key, value);
    }
  });
}

/// The files with definitions of models, each once, as comments: reading does not need them, but what tells one
/// configuration from another does.
std::string definitions_of(const Config& config) {
  std::map<std::string, std::string> files;
  for (const ModelSettings& model : config.models) {
    if (!model.definitions.empty()) files[model.definitions] = model.definitions_text.value_or("");
  }
  std::string comments;
  for (const auto& [file, text] : files) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) comments += fmt::format("# {}: {}\n", file, line);
  }
  return comments;
}

}  // namespace

std::vector<std::string> variant_names(std::vector<std::string> more) {
  for (const std::string_view name : nalab::variant_names()) more.emplace_back(name);
  return more;
}

std::vector<Pass> passes_of(RowPass pass) {
  switch (pass) {
    case RowPass::forward:
      return {Pass::forward};
    case RowPass::forward_backward:
      return {Pass::forward, Pass::backward};
    case RowPass::weights:
      return {Pass::weights};
    case RowPass::weights_backward:
      return {Pass::weights_backward};
    case RowPass::values:
      return {Pass::values};
    case RowPass::values_backward:
      return {Pass::values_backward};
  }
  return {};
}

Problem ProblemSettings::problem(ElementType type) const {
  Problem p;
  for (std::size_t i = 0; i < layout.size(); ++i) {
    p.axes.push_back(
        {.extent = layout[i], .window = window[i], .stride = stride[i], .dilation = dilation[i], .causal = causal[i]});
  }
  p.batch = batch;
  p.heads = heads;
  p.heads_kv = heads_kv.value_or(heads);
  p.head_dim = head_dim;
  p.head_dim_v = head_dim_v.value_or(head_dim);
  p.extra_tokens = extra_tokens;
  p.relative_bias = relative_bias;
  p.scale = scale;
  p.type = type;
  return p;
}

Config load(const std::string& path, Form form) {
  const std::string text = yaml::read_text(path);
  const Field root = Field::parse(path, text);
  // The other form is checked as well: a mistake in it should not stay hidden until the form is first used.
  const std::string folder = fs::path(path).parent_path().string();
  Config full = read_config(root, Form::full, folder);
  Config quick = read_config(root, Form::quick, folder);
  Config config = std::move(form == Form::full ? full : quick);
  config.path = path;
  config.text = text;
  return config;
}

std::string resolved(const Config& config) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  emit_fields(out, config.title);
  emit_fields(out, config.settings);
  emit_list(out, "problems", config.problems);
  emit_list(out, "models", config.models);
  emit_list(out, "simulations", config.simulations);
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n" + definitions_of(config);
}

store::StoredConfig stored(const Config& config) {
  return {config.title.name, config.text, resolved(config), config.title.table, config.settings.baseline};
}

}  // namespace nalab::config
