// Results files read, and what in them cannot be true refused: a file may claim more rows, samples or text than it has.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "core/error.h"
#include "store/compounds.h"
#include "store/results.h"
#include "store/results_format.h"
#include "store/rows.h"
#include "store/tensor_files.h"

namespace nalab::store {

namespace {

/// Samples that are read at a time.
constexpr int64_t kSamplesPerRead = 1 << 16;

template <class T>
void read_attributes(hid_t group, T& object) {
  T::visit_fields(object, [&](const char* name, auto& field, const char*) {
    if (is_later_field(name) && !hdf5::has_attribute(group, name)) return;
    field = hdf5::read_attribute<std::decay_t<decltype(field)>>(group, name);
  });
}

/// What a list claims to have but was never written reads as empty texts.
template <class R>
void require_id(const R& row) {
  if (row.id.empty()) throw Error("a row or simulation has no id");
}

std::vector<SimulationRow> read_simulations(hid_t file) {
  if (!hdf5::has_link(file, kSimulations)) return {};
  return read_compounds<SimulationRow>(file, kSimulations, require_id<SimulationRow>);
}

/// Throws Error if the status is not one that a run writes.
void require_plausible(const TimedRow& row) {
  require_id(row);
  if (std::ranges::find(kStatuses, row.status) == kStatuses.end()) {
    throw Error("row " + row.id + " has status '" + row.status + "', must be done, failed or refused");
  }
}

/// The samples of a file, each of which belongs to one row.
class Samples {
 public:
  explicit Samples(hid_t file)
      : dataset_(hdf5::open_dataset(file, kSamples)), total_(hdf5::length(dataset_)), unclaimed_(total_) {}

  /// Gives a row its samples. Throws Error if they are not there, or another row's, or not what a run writes.
  void give(TimedRow& row) {
    if (row.first_sample < 0 || row.sample_count < 0 || row.first_sample > total_ - row.sample_count) {
      throw Error("row " + row.id + " has samples from " + std::to_string(row.first_sample) + ", " +
                  std::to_string(row.sample_count) + " of them, but there are " + std::to_string(total_));
    }
    unclaimed_ -= row.sample_count;
    if (unclaimed_ < 0) throw Error("row " + row.id + " has samples that another row has too");
    row.samples = read(row);
  }

 private:
  /// Memory is asked for as samples are found to be there.
  std::vector<double> read(const TimedRow& row) const {
    const hdf5::Handle type = hdf5::value_type<double>();
    std::vector<double> read;
    while (std::ssize(read) < row.sample_count) {
      const auto begin = std::ssize(read);
      const int64_t count = std::min(kSamplesPerRead, row.sample_count - begin);
      read.resize(static_cast<std::size_t>(begin + count));
      hdf5::read_part(dataset_, row.first_sample + begin, count, type, read.data() + begin);
      for (auto sample = read.begin() + begin; sample != read.end(); ++sample) {
        if (std::isfinite(*sample) && *sample > 0) continue;
        throw Error("row " + row.id + " has a sample of " + std::to_string(*sample) +
                    " s, must be finite and greater than 0");
      }
    }
    return read;
  }

  hdf5::Handle dataset_;
  int64_t total_, unclaimed_;
};

std::vector<Row> read_rows(hid_t file, Samples& samples) {
  std::vector<Row> rows = read_compounds<Row>(file, kRows, require_plausible);
  const bool infer = !has_field(file, kRows, "arithmetic");
  for (Row& row : rows) {
    if (infer) infer_arithmetic(row);
    samples.give(row);
  }
  return rows;
}

std::vector<ModelRow> read_models(hid_t file, Samples& samples) {
  if (!hdf5::has_link(file, kModels)) return {};
  std::vector<ModelRow> models = read_compounds<ModelRow>(file, kModels, require_plausible);
  for (ModelRow& model : models) samples.give(model);
  return models;
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

/// Throws Error if a peak is not one that a run writes.
void require_plausible_peak(const Peak& peak) {
  for (const double rate : {peak.one_thread, peak.all_threads}) {
    if (std::isfinite(rate) && rate > 0) continue;
    throw Error(std::string("dataset ") + kPeaks + ": peak " + peak.name + " is " + std::to_string(rate) +
                " FLOP/s, must be finite and greater than 0");
  }
}

std::vector<Peak> read_peaks(hid_t environment) {
  if (hdf5::has_attribute(environment, "fma_f32_one_thread")) return read_earlier_peaks(environment);
  return read_compounds<Peak>(environment, kPeaks, require_plausible_peak);
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
  hdf5::within(path, [&] {
    Samples samples(file);
    results.rows = read_rows(file, samples);
    results.models = read_models(file, samples);
  });
  results.simulations = hdf5::within(path, [&] { return read_simulations(file); });
  results.shard = hdf5::within(path, [&] { return read_shard(file); });
  return results;
}

std::vector<StoredTensor> read_tensors(const std::string& path, std::string_view row_id) {
  const hdf5::Handle file = open_results(path);
  const std::string id(row_id);
  const hdf5::Handle all = hdf5::within(path, [&] { return hdf5::open_group(file, kTensors); });
  return hdf5::within(path + ": group tensors/" + id, [&] {
    std::vector<StoredTensor> tensors;
    const hdf5::Handle group = open_tensors(path, all, id);
    if (group < 0) return tensors;
    for (const std::string& name : hdf5::children(group, H5O_TYPE_DATASET)) {
      const hdf5::Handle dataset = hdf5::open_dataset(group, name);
      hdf5::within("tensor " + name, [&] {
        tensors.push_back({name, hdf5::shape_of(dataset), hdf5::read_values<float>(dataset)});
      });
    }
    return tensors;
  });
}

}  // namespace nalab::store
