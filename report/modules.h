// The one list of table modules: one per published table. A new one is a source file and a row.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "report/table.h"
#include "store/schema.h"

namespace nalab::report {

struct Options {
  std::string baseline;  ///< variant that speedups are over; empty: the config's, or naive where that was not asked for
};

/// Makes the tables of a results file that a module has to do with; none where it has not.
struct Module {
  const char* name;
  std::vector<Table> (*tables)(const store::Results& results, const Options& options);
};

std::span<const Module> modules();

/// Any results file: for each of its configs an overview (problems by variants) and all figures in detail.
std::vector<Table> speedup_tables(const store::Results& results, const Options& options);

/// Results with simulations: for each of their published tables the simulator's figures beside the published ones, with
/// a verdict on each row.
std::vector<Table> simulation_tables(const store::Results& results, const Options& options);

}  // namespace nalab::report
