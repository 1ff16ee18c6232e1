// How results files are laid out, for those who write and those who read them.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "store/hdf5.h"
#include "store/results.h"

namespace nalab::store {

inline constexpr const char* kRows = "rows";
inline constexpr const char* kSamples = "samples";
inline constexpr const char* kSimulations = "simulations";
inline constexpr const char* kModels = "models";
inline constexpr const char* kPeaks = "peaks";
inline constexpr const char* kShard = "shard";
inline constexpr const char* kTensors = "tensors";
inline constexpr std::array kStatuses{"done", "failed", "refused"};

/// Opens a results file. Throws Error if it is none.
hdf5::Handle open_results(const std::string& path);

/// Makes an empty file a results file without rows.
void compose(hid_t file, const Environment& environment, const std::vector<StoredConfig>& configs,
             const std::optional<Shard>& shard);

/// Copies all of a results file but its tensors into an empty file.
void copy_without_tensors(hid_t from, hid_t to);

/// Adds rows with their samples, but without their tensors.
void append_rows(hid_t file, std::vector<Row> rows);
void append_models(hid_t file, std::vector<ModelRow> models);
void append_simulations(hid_t file, std::span<const SimulationRow> simulations);

}  // namespace nalab::store
