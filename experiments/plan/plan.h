// The plan: what a run will do, row by row, before it does anything.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/kernels/registry.h"
#include "core/plan.h"
#include "core/problem.h"
#include "experiments/config/config.h"
#include "experiments/plan/models.h"
#include "experiments/verification/sample.h"

namespace nalab::plan {

/// One (problem, variant, type, pass).
struct PlannedRow {
  std::string id;        ///< stable: problem id, variant, pass, and tilings other than the best; no '/'
  int64_t position = 0;  ///< among all that the configurations request, filtered or not, counted from 0
  std::string config;    ///< name of the configuration that asked for it first
  std::string label;     ///< of the problem; kSelfAttention for a baseline row that was added to it
  std::string baseline;  ///< id of the problem's self attention
  Problem problem;       ///< what is computed
  const Variant* variant = nullptr;
  config::RowPass pass = config::RowPass::forward;
  Isa isa = Isa::baseline;             ///< limit on the instructions used
  std::optional<std::string> refusal;  ///< why the row is not run; unset if it is
  std::vector<nalab::Plan> plans;      ///< what is called, one after the other; empty for a refused row

  int64_t total_queries = 0;     ///< rows of out, or of attn
  int64_t verified_queries = 0;  ///< of those, how many are to be compared with the oracle; 0 for an invalid problem
  std::optional<verification::GradientSample> gradient_sample;  ///< set if not all gradients are to be compared
  int64_t attended_pairs =
      0;  ///< of one head of one batch entry; 0 for an invalid problem, like the fields that follow
  int64_t useful_flops = 0;
  int64_t executed_flops = 0;   ///< 0 for a refused row
  int64_t tensor_bytes = 0;     ///< of the tensors that the row's passes must read or write once
  bool stores_tensors = false;  ///< whether the settings have them kept in the results file
  int64_t workspace_bytes = 0;  ///< 0 for a refused row
  int64_t memory_bytes = 0;  ///< everything that must be in memory: tensors, workspace, oracle, a tensor being stored
  double seconds = 0;        ///< expected, verification included; 0 for a refused row
};

/// Rows over the same tensors: the variants of one problem, type and pass, whose samples are interleaved.
struct Group {
  std::vector<PlannedRow> rows;
  config::Settings settings;
  std::optional<Device> device = {};  ///< that their run names
};

/// One question to the simulator.
struct Simulation {
  std::string id;      ///< stable: table, problem, tiles and application
  std::string config;  ///< name of the configuration that asked for it first
  config::SimulationSettings settings;
};

struct RunPlan {
  std::vector<Group> groups;
  std::vector<ModelGroup> models;
  std::vector<Simulation> simulations;
  int64_t repeated = 0;                ///< rows and simulations asked for again; they run once
  std::map<Device, int64_t> left_out;  ///< rows that leave_out_absent_devices() has removed

  int64_t rows() const;  ///< of groups and models
  /// Whether it computes anything: simulations are only counted.
  bool has_rows() const { return !groups.empty() || !models.empty(); }
};

/// What rows may use.
struct Resources {
  int64_t memory_bytes = 0;
  int threads = 1;
  Isa isa = choose_isa();
  std::string arithmetic = {};                         ///< where it computes the row; empty: by preference
  std::string_view memory_clause = "the machine has";  ///< who limits the memory, for refusals
};

inline constexpr const char* kSelfAttention = "self attention";

/// "56x56_w7x7_..._f32.naive.forward", and ".static" or the text of a tiling after it unless the best one is meant.
std::string row_id(const Problem& problem, const Variant& variant, config::RowPass pass,
                   const config::Settings& settings);

/// The row of a valid problem and a variant; a pass that reads no bias has the problem without one. Refused if the
/// variant does not support it or if the machine has too little memory for it. A variant of self attention gets the
/// problem's counterpart, which may break rules of its own: then the row is refused for them.
PlannedRow make_row(const Problem& problem, const Variant& variant, config::RowPass pass,
                    const config::Settings& settings, const Resources& resources);

/// Why a row is refused that needs more memory than so many bytes: "needs 2.00 GB of memory (1.00 GB of it workspace),
/// CLAUSE 1.50 GB"; nullopt if it does not.
std::optional<std::string> lacks_memory(const PlannedRow& row, int64_t bytes, std::string_view clause);
/// The same for what needs so much, so much of it as workspace.
std::optional<std::string> lacks_memory(int64_t needed, int64_t workspace, int64_t bytes, std::string_view clause);

/// The rows, models and simulations of all configurations in their order, each id once. Keeps those whose id, or whose
/// problem's label, contains a match of the regular expression `filter`. The same on every machine but for refusals.
/// Throws Error if the filter is not a valid regular expression or matches nothing, or if two configurations have the
/// same name.
RunPlan make_run_plan(const std::vector<config::Config>& configs, const std::string& filter,
                      const Resources& resources);

/// Removes the rows and models of runs on a device that is not here, and counts them.
void leave_out_absent_devices(RunPlan& plan);

/// Removes the rows, models and simulations with these ids.
void skip_finished(RunPlan& plan, const std::vector<std::string>& finished);

}  // namespace nalab::plan
