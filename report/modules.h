// The one list of modules: one per publication, and those for any results. A new one is a source file and a row.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "report/section.h"
#include "store/schema.h"

namespace nalab::report {

struct Options {
  std::string baseline;  ///< variant that speedups are over; empty: the config's, or naive if that was not asked for
};

/// Makes the sections of what a machine's results have to do with the module; none if they have nothing to do with it.
/// The rows of several files may be among the results: those that were asked for by different configurations can have
/// the same id.
struct Module {
  const char* name;
  std::vector<Section> (*sections)(const store::Results& results, const Options& options);
};

std::span<const Module> modules();

/// Any results: a section for each configuration, with an overview (problems by variants) and all figures in detail.
std::vector<Section> speedup_sections(const store::Results& results, const Options& options);

/// Results with simulations: for each of their published tables the simulator's figures next to the published ones,
/// with a verdict on each row.
std::vector<Section> simulation_sections(const store::Results& results, const Options& options);

/// Whole models of any results: all figures of each row.
std::vector<Section> model_sections(const store::Results& results, const Options& options);

// The published tables, each next to the rows of the configurations that name it as their table.

/// Faster NA, figure 1 and tables 1 to 4.
std::vector<Section> faster_na_sections(const store::Results& results, const Options& options);
/// Faster NA, tables 5 to 8: whole models.
std::vector<Section> faster_na_model_sections(const store::Results& results, const Options& options);
/// Generalized NA, windows and strides of tables 2 to 6, and the charts of NATTEN's documentation: operator level.
std::vector<Section> generalized_na_sections(const store::Results& results, const Options& options);
/// Generalized NA, tables 2 to 6: projections from operator level.
std::vector<Section> end_to_end_sections(const store::Results& results, const Options& options);
/// The samples of NATTEN's profiler.
std::vector<Section> profiler_sections(const store::Results& results, const Options& options);
/// The layers of cosmos-predict2.
std::vector<Section> cosmos_predict2_sections(const store::Results& results, const Options& options);

}  // namespace nalab::report
