#include "store/results.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <optional>
#include <type_traits>

#include "core/error.h"
#include "store/compounds.h"
#include "store/differences.h"
#include "store/hdf5.h"
#include "store/new_file.h"
#include "store/rows.h"

namespace nalab::store {

namespace {

constexpr const char* kRows = "rows";
constexpr const char* kSimulations = "simulations";
constexpr const char* kPeaks = "peaks";
constexpr const char* kShard = "shard";
constexpr int64_t kSamplesPerChunk = 1024;

/// One attribute of a group for each field.
template <class T>
void write_attributes(hid_t group, const T& object) {
  T::visit_fields(object,
                  [&](const char* name, const auto& field, const char*) { hdf5::write_attribute(group, name, field); });
}

template <class T>
void read_attributes(hid_t group, T& object) {
  T::visit_fields(object, [&](const char* name, auto& field, const char*) {
    if (is_later_field(name) && !hdf5::has_attribute(group, name)) return;
    field = hdf5::read_attribute<std::decay_t<decltype(field)>>(group, name);
  });
}

void append_rows(hid_t file, std::span<const FinishedRow> finished) {
  const hdf5::Handle samples = hdf5::open_dataset(file, "samples");
  const hdf5::Handle sample_type = hdf5::value_type<double>();
  std::vector<Row> rows;
  for (const FinishedRow& f : finished) {
    Row& row = rows.emplace_back(f.row);
    row.first_sample = hdf5::length(samples);
    row.sample_count = static_cast<int64_t>(row.samples.size());
    hdf5::append(samples, sample_type, row.samples.data(), row.sample_count);
  }

  append_compounds<Row>(file, kRows, rows);

  const hdf5::Handle tensors = hdf5::open_group(file, "tensors");
  for (const FinishedRow& f : finished) {
    if (f.tensors.empty()) continue;
    hdf5::require_link_name(f.row.id);
    const hdf5::Handle group = hdf5::create_group(tensors, f.row.id);
    for (const StoredTensor& t : f.tensors) hdf5::write_tensor(group, t.name, t.shape, t.data);
  }
}

void append_simulations(hid_t file, std::span<const SimulationRow> simulations) {
  if (!hdf5::has_link(file, kSimulations)) create_compounds<SimulationRow>(file, kSimulations);
  append_compounds(file, kSimulations, simulations);
}

std::vector<SimulationRow> read_simulations(hid_t file) {
  if (!hdf5::has_link(file, kSimulations)) return {};
  return read_compounds<SimulationRow>(file, kSimulations);
}

constexpr std::array kStatuses{"done", "failed", "refused"};

/// Throws Error if the status or a sample of the row is not one that a run writes.
void require_plausible(const Row& row) {
  if (std::find(kStatuses.begin(), kStatuses.end(), row.status) == kStatuses.end()) {
    throw Error("row " + row.id + " has status '" + row.status + "', must be done, failed or refused");
  }
  for (const double sample : row.samples) {
    if (!std::isfinite(sample) || sample <= 0) {
      throw Error("row " + row.id + " has a sample of " + std::to_string(sample) +
                  " s, must be finite and greater than 0");
    }
  }
}

std::vector<Row> read_rows(hid_t file) {
  std::vector<Row> rows = read_compounds<Row>(file, kRows);
  const std::vector<double> samples = hdf5::read_values<double>(hdf5::open_dataset(file, "samples"));
  const int64_t sample_total = static_cast<int64_t>(samples.size());
  const bool infer = !has_field(file, kRows, "arithmetic");
  for (Row& row : rows) {
    if (infer) infer_arithmetic(row);
    if (row.first_sample < 0 || row.sample_count < 0 || row.first_sample > sample_total - row.sample_count) {
      throw Error("row " + row.id + " has samples from " + std::to_string(row.first_sample) + ", " +
                  std::to_string(row.sample_count) + " of them, but there are " + std::to_string(sample_total));
    }
    const auto first = samples.begin() + row.first_sample;
    row.samples.assign(first, first + row.sample_count);
    require_plausible(row);
  }
  return rows;
}

hdf5::Handle open_results(const std::string& path) {
  hdf5::Handle file = hdf5::open_file(path);
  const std::string schema = hdf5::within(path, [&] { return hdf5::read_attribute<std::string>(file, "schema"); });
  if (schema != kResultsSchema) {
    throw Error(path + ": attribute schema is '" + schema + "', must be '" + kResultsSchema + "'");
  }
  return file;
}

std::vector<StoredTensor> tensors_of(const std::string& path, hid_t file, const std::string& row_id) {
  const hdf5::Handle all = hdf5::within(path, [&] { return hdf5::open_group(file, "tensors"); });
  return hdf5::within(path + ": group tensors/" + row_id, [&] {
    std::vector<StoredTensor> tensors;
    if (!hdf5::has_link(all, row_id)) return tensors;
    const hdf5::Handle group = hdf5::open_group(all, row_id);
    for (const std::string& name : hdf5::children(group, H5O_TYPE_DATASET)) {
      const hdf5::Handle dataset = hdf5::open_dataset(group, name);
      hdf5::within("tensor " + name, [&] {
        tensors.push_back({name, hdf5::shape_of(dataset), hdf5::read_values<float>(dataset)});
      });
    }
    return tensors;
  });
}

/// Writes each batch into a copy of the file, which then replaces the file: at every moment the file under `path` is
/// whole and locked.
class ResultsFile : public ResultsSink {
 public:
  ResultsFile(std::string path, Descriptor lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  void append(std::span<const FinishedRow> rows) override {
    change([&](hid_t file) { append_rows(file, rows); });
  }

  void append_simulations(std::span<const SimulationRow> simulations) override {
    change([&](hid_t file) { store::append_simulations(file, simulations); });
  }

 private:
  template <class F>
  void change(const F& f) {
    if (!is_file_at(lock_, path_)) throw Error(path_ + ": has been removed or replaced during the run");
    NewFile next(path_);
    const hdf5::Handle file = hdf5::open_in_memory(path_);
    hdf5::within(path_, [&] { f(file); });
    lock_ = next.commit(hdf5::image_of(file));
  }

  std::string path_;
  Descriptor lock_;
};

/// Why no rows may be added to an existing file.
std::string resume_sentence(const Difference& d) {
  if (!d.second) return d.what + " of the file is not requested";
  if (!d.first) return d.what + " is not in the file";
  return d.what + " was '" + *d.first + "' and is '" + *d.second + "'";
}

/// All reasons not to add rows to existing results.
std::vector<Difference> differences(const Results& before, const Environment& environment,
                                    const std::vector<StoredConfig>& configs, const std::optional<Shard>& shard) {
  std::vector<Difference> found = differences(before.environment, environment);
  std::ranges::move(differences(before.configs, configs), std::back_inserter(found));
  // The rest of a whole plan may be requested bit by bit; a shard is one of the rows that the filter let through.
  if (before.shard && shard) {
    if (shard_text(*before.shard) != shard_text(*shard)) {
      found.push_back({"shard", shard_text(*before.shard), shard_text(*shard)});
    }
    if (before.shard->filter != shard->filter) found.push_back({"filter", before.shard->filter, shard->filter});
  } else if (before.shard) {
    found.push_back({"shard " + shard_text(*before.shard), "", std::nullopt});
  } else if (shard) {
    found.push_back({"shard " + shard_text(*shard), std::nullopt, ""});
  }
  return found;
}

/// A new file in memory, without rows.
hdf5::Handle compose(const std::string& path, const Environment& environment, const std::vector<StoredConfig>& configs,
                     const std::optional<Shard>& shard) {
  hdf5::Handle file = hdf5::create_in_memory(path);
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
  const hdf5::Handle samples = hdf5::create_list(file, "samples", hdf5::value_type<double>(), kSamplesPerChunk);
  hdf5::write_attribute(samples, "unit", std::string("s"));
  hdf5::create_group(file, "tensors");
  return file;
}

/// The two peaks that files of earlier builds have as attributes, 0 if not measured.
std::vector<Peak> read_earlier_peaks(hid_t environment) {
  std::vector<Peak> peaks;
  for (const auto& [name, attribute] : {std::pair{"f32_fma", "fma_f32"}, std::pair{"bf16_dot", "dot_bf16"}}) {
    const auto rate = [&, prefix = std::string(attribute)](const char* threads) {
      return hdf5::read_attribute<double>(environment, prefix + threads);
    };
    const Peak peak{name, rate("_one_thread"), rate("_all_threads")};
    if (peak.all_threads > 0) peaks.push_back(peak);
  }
  return peaks;
}

std::vector<Peak> read_peaks(hid_t environment) {
  if (hdf5::has_attribute(environment, "fma_f32_one_thread")) return read_earlier_peaks(environment);
  std::vector<Peak> peaks = read_compounds<Peak>(environment, kPeaks);
  for (const Peak& peak : peaks) {
    for (const double rate : {peak.one_thread, peak.all_threads}) {
      if (std::isfinite(rate) && rate > 0) continue;
      throw Error(std::string("dataset ") + kPeaks + ": peak " + peak.name + " is " + std::to_string(rate) +
                  " FLOP/s, must be finite and greater than 0");
    }
  }
  return peaks;
}

std::optional<Shard> read_shard(hid_t file) {
  if (!hdf5::has_link(file, kShard)) return std::nullopt;
  const hdf5::Handle group = hdf5::open_group(file, kShard);
  return hdf5::within(std::string("group ") + kShard, [&] {
    Shard shard;
    read_attributes(group, shard);
    if (shard.index < 1 || shard.index > shard.count) {
      throw Error("index " + std::to_string(shard.index) + " must be from 1 to " + std::to_string(shard.count) +
                  ", the count");
    }
    return shard;
  });
}

}  // namespace

std::string shard_text(const Shard& shard) {
  return std::to_string(shard.index) + " of " + std::to_string(shard.count);
}

std::unique_ptr<ResultsSink> create_results(const std::string& path, const Environment& environment,
                                            const std::vector<StoredConfig>& configs,
                                            const std::optional<Shard>& shard) {
  NewFile target(path);
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) {
    throw Error(path + ": already exists; continue it with --resume, or name another file with -o");
  }
  const hdf5::Handle file = hdf5::within(path, [&] { return compose(path, environment, configs, shard); });
  return std::make_unique<ResultsFile>(path, target.commit(hdf5::image_of(file)));
}

std::unique_ptr<ResultsSink> resume_results(const std::string& path, const Environment& environment,
                                            const std::vector<StoredConfig>& configs,
                                            std::vector<std::string>& finished, const std::optional<Shard>& shard) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return create_results(path, environment, configs, shard);
  // Reading reports a file that is not a results file before it is locked.
  open_results(path);
  Descriptor lock = lock_file(path);
  const Results before = read_results(path);
  std::string sentence;
  for (const Difference& difference : differences(before, environment, configs, shard)) {
    sentence += (sentence.empty() ? "" : "; ") + resume_sentence(difference);
  }
  if (!sentence.empty()) throw Error(path + ": cannot be resumed: " + sentence);
  for (const Row& row : before.rows) finished.push_back(row.id);
  for (const SimulationRow& simulation : before.simulations) finished.push_back(simulation.id);
  return std::make_unique<ResultsFile>(path, std::move(lock));
}

void write_results(const std::string& path, const Results& results, std::span<const FinishedRow> rows) {
  NewFile target(path);
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) throw Error(path + ": already exists; name another file with -o");
  const hdf5::Handle file = hdf5::within(path, [&] {
    hdf5::Handle composed = compose(path, results.environment, results.configs, results.shard);
    append_rows(composed, rows);
    if (!results.simulations.empty()) store::append_simulations(composed, results.simulations);
    return composed;
  });
  target.commit(hdf5::image_of(file));
}

Results read_results(const std::string& path) {
  const hdf5::Handle file = open_results(path);
  Results results;
  results.path = path;
  const auto group_of = [&](const char* name) {
    return hdf5::within(path, [&] { return hdf5::open_group(file, name); });
  };
  const hdf5::Handle environment_group = group_of("environment");
  hdf5::within(path + ": group environment", [&] {
    read_attributes(environment_group, results.environment);
    results.environment.peaks = read_peaks(environment_group);
  });
  const hdf5::Handle all = group_of("configs");
  hdf5::within(path + ": group configs", [&] {
    for (const std::string& name : hdf5::children(all, H5O_TYPE_GROUP)) {
      const hdf5::Handle group = hdf5::open_group(all, name);
      StoredConfig& config = results.configs.emplace_back();
      config.name = name;
      StoredConfig::visit_fields(
          config, [&](const char* field, std::string& text, const char*) { text = hdf5::read_text(group, field); });
    }
  });
  results.rows = hdf5::within(path, [&] { return read_rows(file); });
  results.simulations = hdf5::within(path, [&] { return read_simulations(file); });
  results.shard = hdf5::within(path, [&] { return read_shard(file); });
  return results;
}

std::vector<StoredTensor> read_tensors(const std::string& path, std::string_view row_id) {
  const hdf5::Handle file = open_results(path);
  return tensors_of(path, file, std::string(row_id));
}

std::vector<FinishedRow> read_finished_rows(const std::string& path) {
  const hdf5::Handle file = open_results(path);
  std::vector<FinishedRow> finished;
  for (Row& row : hdf5::within(path, [&] { return read_rows(file); })) {
    std::vector<StoredTensor> tensors = tensors_of(path, file, row.id);
    finished.push_back({std::move(row), std::move(tensors)});
  }
  return finished;
}

}  // namespace nalab::store
