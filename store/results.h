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

/// Where finished rows go.
class ResultsSink {
 public:
  virtual ~ResultsSink() = default;
  /// Keeps the rows, all or none. When it returns they survive the death of the process. Fills in first_sample and
  /// sample_count itself. Throws Error where they cannot be kept (a full disk).
  virtual void append(std::span<const FinishedRow> rows) = 0;
  /// Keeps simulations in the same way.
  virtual void append_simulations(std::span<const SimulationRow> simulations) = 0;
};

/// Starts a new results file. Throws Error where the file exists already or cannot be written. As long as the sink
/// lives nobody else can go on with the file. `shard` is set for a file that holds a share of a plan.
std::unique_ptr<ResultsSink> create_results(const std::string& path, const Environment& environment,
                                            const std::vector<StoredConfig>& configs,
                                            const std::optional<Shard>& shard = {});

/// Goes on with a results file of the same configs, build, machine and shard. Throws Error that says what differs, or
/// where another run is writing the file.
/// Times and measured peaks may differ. The ids of the rows and simulations that it holds go to
/// `finished`.
std::unique_ptr<ResultsSink> resume_results(const std::string& path, const Environment& environment,
                                            const std::vector<StoredConfig>& configs,
                                            std::vector<std::string>& finished, const std::optional<Shard>& shard = {});

/// Writes a whole results file at once: what `results` says of environment, configs, simulations and shard, and the
/// rows given. Throws Error where the file exists already or cannot be written.
void write_results(const std::string& path, const Results& results, std::span<const FinishedRow> rows);

/// "2 of 3"
std::string shard_text(const Shard& shard);

/// Throws Error where the file is missing, no HDF5 file, or of another schema, or has a row of an unknown status or
/// with a time that is not finite and positive.
Results read_results(const std::string& path);

/// The tensors kept for a row; empty where there are none.
std::vector<StoredTensor> read_tensors(const std::string& path, std::string_view row_id);

/// All rows with the tensors kept for them. Throws Error as read_results.
std::vector<FinishedRow> read_finished_rows(const std::string& path);

}  // namespace nalab::store
