// Merges results files into one.
#pragma once

#include <string>
#include <vector>

#include "store/results.h"

namespace nalab::store {

struct MergeOptions {
  bool allow_mixed = false;    ///< files of other machines or builds, or with configurations that other files lack
  bool allow_missing = false;  ///< some of the shards, or some of their rows
};

struct MergeSummary {
  int64_t rows = 0;  ///< those of models among them
  int64_t simulations = 0;
  std::vector<std::string> warnings;  ///< what the options allowed, one sentence each
};

/// Writes a new results file with all rows, models, simulations, samples, tensors and configurations of several. Rows
/// are in the order of the plan, independent of the order of the files, so that all shards of a plan give the same file
/// as a single run. The environment is that of the first shard, or of the first file if they are not shards. Throws
/// Error naming the files, what is wrong and both values: machines, builds or configurations that differ, two texts of
/// one configuration, shards of different divisions, the same shard or row twice, shards that are missing or
/// unfinished; or if `output` already exists or cannot be written.
MergeSummary merge_results(const std::vector<std::string>& paths, const std::string& output,
                           const MergeOptions& options);

}  // namespace nalab::store
