#include "store/results.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <utility>

#include "core/error.h"
#include "store/deferred_signals.h"
#include "store/differences.h"
#include "store/new_hdf5_file.h"
#include "store/results_format.h"
#include "store/tensor_files.h"

namespace nalab::store {

namespace {

/// Up to this size a results file is copied with the tensors in it; those that would make it larger stand beside it
/// until the run ends.
constexpr int64_t kMostBytesInside = int64_t{16} << 20;

/// Writes each batch into a copy of the file, which then replaces the file: at every moment the file under `path` is
/// whole and locked.
class ResultsFile : public ResultsSink {
 public:
  ResultsFile(std::string path, Descriptor lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  void keep(const std::string& row_id, const StoredTensor& tensor) override { add_to(kept_, row_id, tensor); }

  void append(std::span<const FinishedRow> finished) override {
    std::unique_ptr<TensorFile> tensors = std::move(kept_);
    std::vector<Row> rows;
    for (const FinishedRow& f : finished) {
      rows.push_back(f.row);
      for (const StoredTensor& tensor : f.tensors) add_to(tensors, f.row.id, tensor);
    }
    change([&](hid_t file) { append_rows(file, std::move(rows)); }, tensors.get());
  }

  void append_models(std::span<const ModelRow> models) override {
    change([&](hid_t file) { store::append_models(file, {models.begin(), models.end()}); });
  }

  void append_simulations(std::span<const SimulationRow> simulations) override {
    change([&](hid_t file) { store::append_simulations(file, simulations); });
  }

  void finish() override {
    require_there();
    if (!any_outside(hdf5::open_group(open_results(path_), kTensors))) return;
    hdf5::NewHdf5File next(path_, hdf5::CopyOf{lock_});
    std::vector<std::string> taken;
    next.write([&](hid_t file) { taken = take_in(path_, hdf5::open_group(file, kTensors)); });
    const DeferredSignals deferred;
    lock_ = next.commit();
    std::error_code ignored;
    for (const std::string& tensor_file : taken) std::filesystem::remove(tensor_file, ignored);
  }

 private:
  void add_to(std::unique_ptr<TensorFile>& tensors, const std::string& row_id, const StoredTensor& tensor) const {
    try {
      if (!tensors) tensors = std::make_unique<TensorFile>(path_);
      tensors->add(row_id, tensor);
    } catch (const Error& error) {
      tensors.reset();
      throw Error(path_ + ": " + error.what());
    }
  }

  void require_there() const {
    if (!is_file_at(lock_, path_)) throw Error(path_ + ": has been removed or replaced during the run");
  }

  int64_t bytes() const {
    struct stat status {};
    ::fstat(lock_.id(), &status);
    return status.st_size;
  }

  /// Calls f(file) for a copy of the file, adds the tensors, and puts the copy in the file's place.
  template <class F>
  void change(const F& f, TensorFile* tensors = nullptr) {
    require_there();
    if (!std::exchange(is_small_, true) && bytes() > kMostBytesInside) move_tensors_out();
    hdf5::NewHdf5File next(path_, hdf5::CopyOf{lock_});
    const bool inside = tensors != nullptr && bytes() + tensors->bytes() <= kMostBytesInside;
    // A tensor file must not stay without the results that point to it.
    const DeferredSignals deferred;
    if (tensors != nullptr && !inside) tensors->commit();
    next.write([&](hid_t file) {
      f(file);
      if (tensors == nullptr) return;
      const hdf5::Handle all = hdf5::open_group(file, kTensors);
      inside ? tensors->copy_to(all) : tensors->point_from(all);
    });
    lock_ = next.commit();
    if (tensors != nullptr) tensors->stay();
  }

  /// Moves the tensors in the file to a tensor file.
  void move_tensors_out() {
    const hdf5::Handle before = open_results(path_);
    const hdf5::Handle all = hdf5::open_group(before, kTensors);
    std::vector<std::string> ids = hdf5::children(all, H5O_TYPE_GROUP);
    const auto outside = std::stable_partition(ids.begin(), ids.end(),
                                               [&](const std::string& id) { return tensor_file_of(all, id).empty(); });
    if (outside == ids.begin()) return;
    TensorFile moved(path_);
    std::for_each(ids.begin(), outside, [&](const std::string& id) { moved.add(id, all); });
    hdf5::NewHdf5File next(path_, lock_);
    const DeferredSignals deferred;
    moved.commit();
    next.write([&](hid_t file) {
      copy_without_tensors(before, file);
      const hdf5::Handle tensors = hdf5::open_group(file, kTensors);
      std::for_each(outside, ids.end(), [&](const std::string& id) { hdf5::copy(all, id, tensors, id); });
      moved.point_from(tensors);
    });
    lock_ = next.commit();
    moved.stay();
  }

  std::string path_;
  Descriptor lock_;
  std::unique_ptr<TensorFile> kept_;  ///< tensors of rows that are still to be appended; null if there are none
  bool is_small_ = false;             ///< whether tensors in it have been moved out if they were too large
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

/// Throws Error if there is a file already, or if none can be written.
void require_new(const std::string& path, const std::string& advice) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) throw Error(path + ": already exists; " + advice);
}

}  // namespace

std::string shard_text(const Shard& shard) {
  return std::to_string(shard.index) + " of " + std::to_string(shard.count);
}

std::unique_ptr<ResultsSink> create_results(const std::string& path, const Environment& environment,
                                            const std::vector<StoredConfig>& configs,
                                            const std::optional<Shard>& shard) {
  require_new(path, "continue it with --resume, or name another file with -o");
  hdf5::NewHdf5File file(path);
  file.write([&](hid_t f) { compose(f, environment, configs, shard); });
  return std::make_unique<ResultsFile>(path, file.commit(Existing::refuse));
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
  for (const ModelRow& model : before.models) finished.push_back(model.id);
  for (const SimulationRow& simulation : before.simulations) finished.push_back(simulation.id);
  return std::make_unique<ResultsFile>(path, std::move(lock));
}

void write_results(const std::string& path, const Results& results, std::span<const std::string> sources) {
  require_new(path, "name another file with -o");
  hdf5::NewHdf5File file(path);
  file.write([&](hid_t f) {
    compose(f, results.environment, results.configs, results.shard);
    append_rows(f, results.rows);
    if (!results.models.empty()) store::append_models(f, results.models);
    if (!results.simulations.empty()) store::append_simulations(f, results.simulations);
    const hdf5::Handle tensors = hdf5::open_group(f, kTensors);
    for (const std::string& source : sources) {
      const hdf5::Handle from = open_results(source);
      const hdf5::Handle all = hdf5::open_group(from, kTensors);
      for (const std::string& id : hdf5::children(all, H5O_TYPE_GROUP)) copy_tensors(source, all, id, tensors);
    }
  });
  file.commit(Existing::refuse);
}

}  // namespace nalab::store
