// Results files: written row by row, safe against being killed, read back whole.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/schema.h"

namespace nalab::store {

/// Receives finished rows.
class ResultsSink {
 public:
  virtual ~ResultsSink() = default;
  /// Keeps a tensor of a row that is yet to be appended, on the disk: it need not stay in memory until then.
  virtual void keep(const std::string& row_id, const StoredTensor& tensor) = 0;
  /// Stores the rows with their tensors and those kept for them, all or none. Once it returns, they survive if the
  /// process is killed. Fills in first_sample and sample_count itself. Throws Error if they cannot be stored (for
  /// example on a full disk).
  virtual void append(std::span<const FinishedRow> rows) = 0;
  /// Stores rows of models, and simulations, in the same way.
  virtual void append_models(std::span<const ModelRow> models) = 0;
  virtual void append_simulations(std::span<const SimulationRow> simulations) = 0;
  /// Takes into the results file the tensors that were stored beside it (store/tensor_files.h). A file that this is not
  /// called for is whole together with those beside it.
  virtual void finish() = 0;
};

/// Starts a new results file. Throws Error if the file already exists or cannot be written. As long as the sink lives,
/// no other run can continue the file. `shard` is set for a file that holds one shard of a plan.
std::unique_ptr<ResultsSink> create_results(const std::string& path, const Environment& environment,
                                            const std::vector<StoredConfig>& configs,
                                            const std::optional<Shard>& shard = {});

/// Continues a results file of the same configs, build, machine and shard. Throws Error that says what differs, or if
/// another run is writing the file. Times and measured peaks may differ. The ids of the rows, models and
/// simulations that the file holds are stored in `finished`.
std::unique_ptr<ResultsSink> resume_results(const std::string& path, const Environment& environment,
                                            const std::vector<StoredConfig>& configs,
                                            std::vector<std::string>& finished, const std::optional<Shard>& shard = {});

/// Writes a whole results file at once, with all tensors of other results files. Throws Error if the file already
/// exists or cannot be written.
void write_results(const std::string& path, const Results& results, std::span<const std::string> sources);

/// "2 of 3"
std::string shard_text(const Shard& shard);

/// Throws Error if the file is missing, is not an HDF5 file or has another schema, or if a row has an unknown status or
/// a time that is not finite and positive.
Results read_results(const std::string& path);

/// The tensors stored for a row; empty if there are none.
std::vector<StoredTensor> read_tensors(const std::string& path, std::string_view row_id);

}  // namespace nalab::store
