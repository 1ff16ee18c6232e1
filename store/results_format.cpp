#include "store/results_format.h"

#include <utility>

#include "core/error.h"
#include "store/compounds.h"

namespace nalab::store {

namespace {

constexpr int64_t kSamplesPerChunk = 1024;

/// One attribute of a group for each field.
template <class T>
void write_attributes(hid_t group, const T& object) {
  T::visit_fields(object,
                  [&](const char* name, const auto& field, const char*) { hdf5::write_attribute(group, name, field); });
}

/// Adds rows to a list, and their samples to those of the file.
template <class R>
void append_timed(hid_t file, const char* name, std::vector<R> rows) {
  const hdf5::Handle samples = hdf5::open_dataset(file, kSamples);
  for (R& row : rows) {
    row.first_sample = hdf5::length(samples);
    row.sample_count = std::ssize(row.samples);
    hdf5::append(samples, hdf5::value_type<double>(), row.samples.data(), row.sample_count);
  }
  append_compounds<R>(file, name, rows);
}

}  // namespace

hdf5::Handle open_results(const std::string& path) {
  hdf5::Handle file = hdf5::open_file(path);
  const std::string schema = hdf5::within(path, [&] { return hdf5::read_attribute<std::string>(file, "schema"); });
  if (schema != kResultsSchema) {
    throw Error(path + ": attribute schema is '" + schema + "', must be '" + kResultsSchema + "'");
  }
  return file;
}

void compose(hid_t file, const Environment& environment, const std::vector<StoredConfig>& configs,
             const std::optional<Shard>& shard) {
  hdf5::write_attribute(file, "schema", std::string(kResultsSchema));
  const hdf5::Handle environment_group = hdf5::create_group(file, "environment");
  write_attributes(environment_group, environment);
  create_compounds<Peak>(environment_group, kPeaks);
  append_compounds<Peak>(environment_group, kPeaks, environment.peaks);
  const hdf5::Handle configs_group = hdf5::create_group(file, "configs");
  for (const StoredConfig& config : configs) {
    hdf5::require_link_name(config.name);
    const hdf5::Handle group = hdf5::create_group(configs_group, config.name);
    StoredConfig::visit_fields(
        config, [&](const char* field, const std::string& text, const char*) { hdf5::write_text(group, field, text); });
  }
  if (shard) {
    const hdf5::Handle group = hdf5::create_group(file, kShard);
    write_attributes(group, *shard);
  }
  create_compounds<Row>(file, kRows);
  const hdf5::Handle samples = hdf5::create_list(file, kSamples, hdf5::value_type<double>(), kSamplesPerChunk);
  hdf5::write_attribute(samples, "unit", std::string("s"));
  hdf5::create_group(file, kTensors);
}

void copy_without_tensors(hid_t from, hid_t to) {
  hdf5::write_attribute(to, "schema", std::string(kResultsSchema));
  for (const H5O_type_t kind : {H5O_TYPE_GROUP, H5O_TYPE_DATASET}) {
    for (const std::string& name : hdf5::children(from, kind)) {
      if (name != kTensors) hdf5::copy(from, name, to, name);
    }
  }
  hdf5::create_group(to, kTensors);
}

void append_rows(hid_t file, std::vector<Row> rows) { append_timed(file, kRows, std::move(rows)); }

void append_models(hid_t file, std::vector<ModelRow> models) {
  if (!hdf5::has_link(file, kModels)) create_compounds<ModelRow>(file, kModels);
  append_timed(file, kModels, std::move(models));
}

void append_simulations(hid_t file, std::span<const SimulationRow> simulations) {
  if (!hdf5::has_link(file, kSimulations)) create_compounds<SimulationRow>(file, kSimulations);
  append_compounds(file, kSimulations, simulations);
}

}  // namespace nalab::store
