#include "report/fold.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "report/format.h"

namespace nalab::report {
namespace {

using store::Environment;

bool is_same_machine(const Environment& a, const Environment& b) {
  return a.cpu == b.cpu && a.isas == b.isas && a.isa == b.isa && a.gpu == b.gpu &&
         a.gpu_power_limit == b.gpu_power_limit && a.cores == b.cores && a.threads == b.threads;
}

Folded start_machine(const store::Results& first) {
  const Environment& e = first.environment;
  Folded machine;
  machine.origin.machine = fmt::format("{}, {}, {} thread{}{}", e.cpu, e.isa, e.threads, e.threads == 1 ? "" : "s",
                                       e.gpu.empty() ? "" : ", " + e.gpu);
  machine.results.path = first.path;
  machine.results.environment = e;
  return machine;
}

/// Whether a row replaces the same row of an earlier file: no time hides a wrong result.
bool overrides(const store::TimedRow& later, const store::TimedRow& earlier) {
  return later.status == "failed" && earlier.status != "failed";
}
bool overrides(const store::SimulationRow&, const store::SimulationRow&) { return false; }

/// Counts the rows of a file.
template <class R>
void count(const std::vector<R>& rows, File& file) {
  for (const R& row : rows) {
    ++(row.status == "done" ? file.done : row.status == "failed" ? file.failed : file.refused);
    file.samples += static_cast<int64_t>(row.samples.size());
  }
}

/// Adds the rows, or simulations, that are not there yet. Returns the number of the others.
template <class R>
int64_t add(std::vector<R>& all, const std::vector<R>& more) {
  std::map<std::pair<std::string, std::string>, std::size_t> places;
  for (std::size_t i = 0; i < all.size(); ++i) places.try_emplace({all[i].config, all[i].id}, i);
  int64_t repeated = 0;
  for (const R& row : more) {
    const auto place = places.find({row.config, row.id});
    if (place == places.end()) {
      all.push_back(row);
      continue;
    }
    ++repeated;
    if (R& earlier = all[place->second]; overrides(row, earlier)) earlier = row;
  }
  return repeated;
}

void add(Folded& machine, const store::Results& file) {
  const Environment& e = file.environment;
  File entry{std::filesystem::path(file.path).filename().string(), e.revision, e.started};
  entry.simulations = static_cast<int64_t>(file.simulations.size());
  count(file.rows, entry);
  count(file.models, entry);
  machine.origin.files.push_back(std::move(entry));

  store::Results& results = machine.results;
  for (const store::StoredConfig& config : file.configs) {
    const bool is_there = std::any_of(results.configs.begin(), results.configs.end(),
                                      [&](const store::StoredConfig& other) { return other.name == config.name; });
    if (!is_there) results.configs.push_back(config);
  }
  machine.origin.repeated +=
      add(results.rows, file.rows) + add(results.models, file.models) + add(results.simulations, file.simulations);

  Environment& all = results.environment;
  all.copy_bandwidth = std::max(all.copy_bandwidth, e.copy_bandwidth);
  for (const store::Peak& peak : e.peaks) {
    const auto there = std::ranges::find(all.peaks, peak.name, &store::Peak::name);
    if (there == all.peaks.end()) {
      all.peaks.push_back(peak);
      continue;
    }
    there->one_thread = std::max(there->one_thread, peak.one_thread);
    there->all_threads = std::max(there->all_threads, peak.all_threads);
  }
}

/// The revisions of all files, and when the first and the last were started.
void say_when(Folded& machine) {
  std::vector<std::string> revisions;
  std::set<std::string> days;
  for (const File& file : machine.origin.files) {
    if (std::find(revisions.begin(), revisions.end(), file.revision) == revisions.end()) {
      revisions.push_back(file.revision);
    }
    days.insert(file.started);
  }
  Environment& e = machine.results.environment;
  e.revision = enumerate(revisions);
  e.started = days.size() == 1 ? *days.begin() : *days.begin() + " to " + *days.rbegin();
}

}  // namespace

std::vector<Folded> fold(const std::vector<store::Results>& files) {
  std::vector<Folded> machines;
  for (const store::Results& file : files) {
    const auto found = std::find_if(machines.begin(), machines.end(), [&](const Folded& machine) {
      return is_same_machine(machine.results.environment, file.environment);
    });
    Folded& machine = found != machines.end() ? *found : machines.emplace_back(start_machine(file));
    add(machine, file);
  }
  for (Folded& machine : machines) say_when(machine);
  return machines;
}

}  // namespace nalab::report
