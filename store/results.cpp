#include "store/results.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>
#include <type_traits>

#include "core/error.h"
#include "store/hdf5.h"
#include "store/new_file.h"

namespace nalab::store {

namespace {

constexpr const char* kRows = "rows";
constexpr const char* kSimulations = "simulations";
constexpr int64_t kRowsPerChunk = 64;
constexpr int64_t kSamplesPerChunk = 1024;

/// What must be the same for rows to stand in one file.
constexpr std::array kSameToResume{"cpu", "isa", "threads", "compiler", "flags", "revision"};

/// A field of a row or simulation in memory: each one takes eight bytes.
union Slot {
  const char* text;
  int64_t integer;
  double number;

  void set(const std::string& value) { text = value.c_str(); }
  void set(int64_t value) { integer = value; }
  void set(double value) { number = value; }
  void get(std::string& value) const { value = text == nullptr ? "" : text; }
  void get(int64_t& value) const { value = integer; }
  void get(double& value) const { value = number; }
};

template <class R, class Visitor>
void visit_fields(R& row, Visitor&& visitor) {
  if constexpr (std::is_same_v<std::remove_const_t<R>, SimulationRow>) {
    visit_simulation(row, visitor);
  } else {
    visit_row(row, visitor);
  }
}

template <class R>
std::size_t field_count() {
  std::size_t count = 0;
  const R none;
  visit_fields(none, [&](const char*, const auto&, const char*) { ++count; });
  return count;
}

/// The compound of a row or simulation, in memory and in the file: its fields in the order of their visit.
template <class R>
hdf5::Handle compound_type() {
  hdf5::Handle type(H5Tcreate(H5T_COMPOUND, field_count<R>() * sizeof(Slot)), "compound type");
  std::size_t offset = 0;
  const R none;
  visit_fields(none, [&](const char* name, const auto& field, const char*) {
    hdf5::check(H5Tinsert(type, name, offset, hdf5::value_type<std::decay_t<decltype(field)>>()), name);
    offset += sizeof(Slot);
  });
  return type;
}

/// A new, empty list of compounds, with the units of their fields.
template <class R>
void create_compounds(hid_t file, const char* name) {
  const hdf5::Handle list = hdf5::create_list(file, name, compound_type<R>(), kRowsPerChunk);
  const R none;
  visit_fields(none, [&](const char* field, const auto&, const std::string& unit) {
    if (!unit.empty()) hdf5::write_attribute(list, std::string("unit.") + field, unit);
  });
}

template <class R>
void append_compounds(hid_t file, const char* name, std::span<const R> rows) {
  std::vector<Slot> slots;
  for (const R& row : rows) {
    visit_fields(row, [&](const char*, const auto& field, const char*) { slots.emplace_back().set(field); });
  }
  hdf5::append(hdf5::open_dataset(file, name), compound_type<R>(), slots.data(), static_cast<int64_t>(rows.size()));
}

template <class R>
std::vector<R> read_compounds(hid_t file, const char* name) {
  const std::string what = std::string("dataset ") + name;
  const hdf5::Handle dataset = hdf5::open_dataset(file, name);
  const hdf5::Handle file_type(H5Dget_type(dataset), name);
  if (H5Tget_class(file_type) != H5T_COMPOUND) throw Error(what + " must be a compound");
  const R none;
  visit_fields(none, [&](const char* field, const auto&, const char*) {
    if (H5Tget_member_index(file_type, field) < 0) throw Error(what + " has no field " + field);
  });

  const hdf5::Handle type = compound_type<R>();
  const hdf5::Handle space(H5Dget_space(dataset), name);
  std::vector<R> rows(static_cast<std::size_t>(hdf5::length(dataset)));
  std::vector<Slot> slots(rows.size() * field_count<R>());
  if (rows.empty()) return rows;
  hdf5::check(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, slots.data()), what + " cannot be read");
  const Slot* slot = slots.data();
  for (R& row : rows) {
    visit_fields(row, [&](const char*, auto& field, const char*) { (slot++)->get(field); });
  }
  H5Dvlen_reclaim(type, space, H5P_DEFAULT, slots.data());
  return rows;
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

/// Throws Error where the fields that decide what is made of the row are none that a run writes.
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
  for (Row& row : rows) {
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

/// Writes each batch into a copy of the file, which then takes the file's place: at any moment the file under
/// `path` is whole, and locked.
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

std::map<std::string, std::string> texts(const Environment& environment) {
  std::map<std::string, std::string> result;
  visit_environment(environment, [&](const char* name, const auto& field, const char*) {
    std::ostringstream text;
    text << field;
    result[name] = text.str();
  });
  return result;
}

/// Nothing for equal texts, else the first line that differs.
std::optional<std::string> first_difference(const std::string& before, const std::string& now) {
  std::istringstream a(before), b(now);
  for (int line = 1;; ++line) {
    std::string x, y;
    const bool more = static_cast<bool>(std::getline(a, x));
    const bool more_now = static_cast<bool>(std::getline(b, y));
    if (!more && !more_now) return std::nullopt;
    if (x != y || more != more_now) return "line " + std::to_string(line) + " was '" + x + "' and is '" + y + "'";
  }
}

/// All reasons not to add rows to the results that are there.
std::vector<std::string> differences(const Results& before, const Environment& environment,
                                     const std::vector<StoredConfig>& configs) {
  std::vector<std::string> found;
  const auto then = texts(before.environment);
  const auto now = texts(environment);
  for (const char* field : kSameToResume) {
    if (then.at(field) != now.at(field)) {
      found.push_back(std::string(field) + " was '" + then.at(field) + "' and is '" + now.at(field) + "'");
    }
  }
  std::map<std::string, std::string> resolved;
  for (const StoredConfig& config : configs) resolved[config.name] = config.resolved;
  for (const StoredConfig& config : before.configs) {
    const auto same_name = resolved.extract(config.name);
    if (same_name.empty()) {
      found.push_back("config " + config.name + " of the file is not asked for");
    } else if (const auto difference = first_difference(config.resolved, same_name.mapped())) {
      found.push_back("config " + config.name + ": " + *difference);
    }
  }
  for (const auto& [name, text] : resolved) found.push_back("config " + name + " is not in the file");
  return found;
}

}  // namespace

std::unique_ptr<ResultsSink> create_results(const std::string& path, const Environment& environment,
                                            const std::vector<StoredConfig>& configs) {
  NewFile target(path);
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) {
    throw Error(path + ": exists already; go on with it with --resume, or name another file with -o");
  }
  const hdf5::Handle file = hdf5::create_in_memory(path);
  hdf5::within(path, [&] {
    hdf5::write_attribute(file, "schema", std::string(kResultsSchema));
    const hdf5::Handle environment_group = hdf5::create_group(file, "environment");
    visit_environment(environment, [&](const char* name, const auto& field, const char*) {
      hdf5::write_attribute(environment_group, name, field);
    });
    const hdf5::Handle configs_group = hdf5::create_group(file, "configs");
    for (const StoredConfig& config : configs) {
      hdf5::require_link_name(config.name);
      const hdf5::Handle group = hdf5::create_group(configs_group, config.name);
      visit_config(config, [&](const char* name, const std::string& text) { hdf5::write_text(group, name, text); });
    }
    create_compounds<Row>(file, kRows);
    const hdf5::Handle samples = hdf5::create_list(file, "samples", hdf5::value_type<double>(), kSamplesPerChunk);
    hdf5::write_attribute(samples, "unit", std::string("s"));
    hdf5::create_group(file, "tensors");
  });
  return std::make_unique<ResultsFile>(path, target.commit(hdf5::image_of(file)));
}

std::unique_ptr<ResultsSink> resume_results(const std::string& path, const Environment& environment,
                                            const std::vector<StoredConfig>& configs,
                                            std::vector<std::string>& finished) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return create_results(path, environment, configs);
  // What is no results file is told by reading it, before it is locked.
  open_results(path);
  Descriptor lock = lock_file(path);
  const Results before = read_results(path);
  std::string sentence;
  for (const std::string& difference : differences(before, environment, configs)) {
    sentence += (sentence.empty() ? "" : "; ") + difference;
  }
  if (!sentence.empty()) throw Error(path + ": cannot be resumed: " + sentence);
  for (const Row& row : before.rows) finished.push_back(row.id);
  for (const SimulationRow& simulation : before.simulations) finished.push_back(simulation.id);
  return std::make_unique<ResultsFile>(path, std::move(lock));
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
    visit_environment(results.environment, [&](const char* name, auto& field, const char*) {
      field = hdf5::read_attribute<std::decay_t<decltype(field)>>(environment_group, name);
    });
  });
  const hdf5::Handle all = group_of("configs");
  hdf5::within(path + ": group configs", [&] {
    for (const std::string& name : hdf5::children(all, H5O_TYPE_GROUP)) {
      const hdf5::Handle group = hdf5::open_group(all, name);
      StoredConfig& config = results.configs.emplace_back();
      config.name = name;
      visit_config(config, [&](const char* field, std::string& text) { text = hdf5::read_text(group, field); });
    }
  });
  results.rows = hdf5::within(path, [&] { return read_rows(file); });
  results.simulations = hdf5::within(path, [&] { return read_simulations(file); });
  return results;
}

std::vector<StoredTensor> read_tensors(const std::string& path, std::string_view row_id) {
  const hdf5::Handle file = open_results(path);
  const std::string id(row_id);
  const hdf5::Handle all = hdf5::within(path, [&] { return hdf5::open_group(file, "tensors"); });
  return hdf5::within(path + ": group tensors/" + id, [&] {
    std::vector<StoredTensor> tensors;
    if (!hdf5::has_link(all, id)) return tensors;
    const hdf5::Handle group = hdf5::open_group(all, id);
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
