#include "store/merge.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <tuple>

#include "core/error.h"
#include "store/differences.h"

namespace nalab::store {

namespace {

/// Collects complaints: those that the caller allows become warnings, the others end the merge.
class Complaints {
 public:
  explicit Complaints(std::vector<std::string>& warnings) : warnings_(warnings) {}

  void add(bool allowed, const std::string& sentence, const std::string& option) {
    if (!allowed) throw Error(sentence + " (" + option + " merges anyway)");
    warnings_.push_back(sentence);
  }

 private:
  std::vector<std::string>& warnings_;
};

/// "cpu is 'B', there 'A'"
std::string mixed_sentence(const Difference& d) {
  if (!d.second) return d.what + " is only there";
  if (!d.first) return d.what + " is only here";
  return d.what + " is '" + *d.second + "', there '" + *d.first + "'";
}

/// Throws Error if two files have configurations with the same name but different texts: rows name their configuration,
/// and would end up under the wrong text.
void require_one_text_of_each_config(const std::vector<Results>& files) {
  std::map<std::string, std::pair<StoredConfig, std::string>> known;
  for (const Results& file : files) {
    for (const StoredConfig& config : file.configs) {
      const auto& [other, path] = known.try_emplace(config.name, config, file.path).first->second;
      for (const Difference& d : differences({other}, {config})) {
        throw Error(file.path + ": cannot be merged with " + path + ": " + mixed_sentence(d));
      }
    }
  }
}

void refuse_mixture(const std::vector<Results>& files, bool allowed, Complaints& complaints) {
  const Results& first = files.front();
  for (const Results& file : files) {
    std::vector<Difference> found = differences(first.environment, file.environment);
    std::ranges::move(differences(first.configs, file.configs), std::back_inserter(found));
    std::string sentence;
    for (const Difference& d : found) sentence += (sentence.empty() ? "" : "; ") + mixed_sentence(d);
    if (sentence.empty()) continue;
    complaints.add(allowed, file.path + ": differs from " + first.path + ": " + sentence, "--allow-mixed");
  }
}

/// Throws Error unless all files are shards of one division, or none is a shard.
void require_one_division(const std::vector<Results>& files) {
  const Results& first = files.front();
  const auto division = [](const Results& file) {
    return file.shard ? "one of " + std::to_string(file.shard->count) + " shards" : std::string("no shard");
  };
  std::map<int64_t, std::string> paths;
  for (const Results& file : files) {
    const std::string where = file.path + ": cannot be merged with " + first.path + ": it is ";
    if (division(file) != division(first)) throw Error(where + division(file) + " and that is " + division(first));
    if (!file.shard) continue;
    if (file.shard->filter != first.shard->filter) {
      throw Error(where + "of filter '" + file.shard->filter + "' and that is of '" + first.shard->filter + "'");
    }
    const auto [other, is_new] = paths.emplace(file.shard->index, file.path);
    if (!is_new) throw Error("shard " + shard_text(*file.shard) + " is in both " + other->second + " and " + file.path);
  }
}

void refuse_gaps(const std::vector<Results>& files, bool allowed, Complaints& complaints) {
  if (!files.front().shard) return;
  std::set<int64_t> there;
  for (const Results& file : files) {
    there.insert(file.shard->index);
    const int64_t rows = std::ssize(file.rows) + std::ssize(file.models) + std::ssize(file.simulations);
    if (rows == file.shard->rows) continue;
    complaints.add(allowed,
                   file.path + ": is unfinished, with " + std::to_string(rows) + " of " +
                       std::to_string(file.shard->rows) + " rows",
                   "nalab run --resume goes on with it, --allow-missing");
  }
  const int64_t count = files.front().shard->count;
  std::string missing;
  for (int64_t index = 1; index <= count; ++index) {
    if (!there.contains(index)) missing += (missing.empty() ? "" : ", ") + std::to_string(index);
  }
  if (missing.empty()) return;
  const char* const noun = std::ssize(there) + 1 == count ? "shard " : "shards ";
  complaints.add(allowed, noun + missing + " of " + std::to_string(count) + " missing", "--allow-missing");
}

/// Throws Error if two files have a row, model or simulation with the same id.
void require_different_ids(const std::vector<Results>& files) {
  std::map<std::string, std::string> paths;
  const auto require_new = [&paths](const std::string& id, const std::string& path) {
    const auto [other, is_new] = paths.emplace(id, path);
    if (!is_new) throw Error("row " + id + " is in both " + other->second + " and " + path);
  };
  for (const Results& file : files) {
    for (const Row& row : file.rows) require_new(row.id, file.path);
    for (const ModelRow& model : file.models) require_new(model.id, file.path);
    for (const SimulationRow& simulation : file.simulations) require_new(simulation.id, file.path);
  }
}

std::vector<StoredConfig> all_configs(const std::vector<Results>& files) {
  std::vector<StoredConfig> configs;
  std::set<std::string> names;
  for (const Results& file : files) {
    for (const StoredConfig& config : file.configs) {
      if (names.insert(config.name).second) configs.push_back(config);
    }
  }
  return configs;
}

/// All rows of a list, by configuration and in the order of its plan.
template <class R>
std::vector<R> all_rows(const std::vector<Results>& files, std::vector<R> Results::*list,
                        const std::vector<StoredConfig>& configs) {
  std::vector<R> rows;
  for (const Results& file : files) std::ranges::copy(file.*list, std::back_inserter(rows));
  std::ranges::stable_sort(rows, {}, [&configs](const R& row) {
    const auto config = std::ranges::find(configs, row.config, &StoredConfig::name);
    return std::tuple(config - configs.begin(), row.position);
  });
  return rows;
}

}  // namespace

MergeSummary merge_results(const std::vector<std::string>& paths, const std::string& output,
                           const MergeOptions& options) {
  std::vector<Results> files;
  for (const std::string& path : paths) files.push_back(read_results(path));
  std::ranges::stable_sort(files, {}, [](const Results& file) { return file.shard ? file.shard->index : 0; });

  MergeSummary summary;
  Complaints complaints(summary.warnings);
  require_one_division(files);
  require_one_text_of_each_config(files);
  refuse_mixture(files, options.allow_mixed, complaints);
  refuse_gaps(files, options.allow_missing, complaints);
  require_different_ids(files);

  Results merged;
  merged.environment = files.front().environment;
  merged.configs = all_configs(files);
  for (const Results& file : files) std::ranges::copy(file.simulations, std::back_inserter(merged.simulations));
  merged.rows = all_rows(files, &Results::rows, merged.configs);
  merged.models = all_rows(files, &Results::models, merged.configs);
  std::vector<std::string> sources;
  for (const Results& file : files) sources.push_back(file.path);
  write_results(output, merged, sources);
  summary.rows = std::ssize(merged.rows) + std::ssize(merged.models);
  summary.simulations = std::ssize(merged.simulations);
  return summary;
}

}  // namespace nalab::store
