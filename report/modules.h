// The one list of modules: one per publication, and those for any results. A new one is a source file and a row.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "report/section.h"
#include "store/schema.h"

namespace nalab::report {

struct Options {
  std::string baseline;  ///< variant that speedups are over; empty: the config's, or naive where that was not asked for
};

/// Makes the sections of what a machine's results have to do with the module; none where they have nothing.
/// The rows of several files may be among the results: those that were asked for by different configurations can have
/// the same id.
struct Module {
  const char* name;
  std::vector<Section> (*sections)(const store::Results& results, const Options& options);
};

std::span<const Module> modules();

/// Any results: a section for each configuration, with an overview (problems by variants) and all figures in detail.
std::vector<Section> speedup_sections(const store::Results& results, const Options& options);

/// Results with simulations: for each of their published tables the simulator's figures beside the published ones, with
/// a verdict on each row.
std::vector<Section> simulation_sections(const store::Results& results, const Options& options);

}  // namespace nalab::report
