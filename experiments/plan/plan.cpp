#include "experiments/plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "experiments/filter/filter.h"
#include "experiments/plan/estimate.h"
#include "experiments/plan/units.h"

namespace nalab::plan {

namespace {

/// Tensors of rows up to this size are stored under `store: {tensors: sample}`.
constexpr int64_t kSampleBytes = 1 << 20;

bool stores_tensors(const PlannedRow& row, config::TensorStorage storage) {
  return storage == config::TensorStorage::all ||
         (storage == config::TensorStorage::sample && row.tensor_bytes <= kSampleBytes);
}

/// Bytes of the tensors of a group, of the oracle's results in double with the float copies compared with them, and of
/// the float copy of the tensor that is being stored.
int64_t tensors_and_oracle_bytes(const PlannedRow& row) {
  const Problem& p = row.problem;
  int64_t bytes = 0;
  int64_t outputs = 0;
  int64_t gradients = 0;
  int64_t stored = 0;
  for (const TensorInfo& info : tensors_of(p, config::passes_of(row.pass).back())) {
    bytes += size_of(info.type) * info.shape.elements();
    if (row.stores_tensors) stored = std::max(stored, 4 * info.shape.elements());
    if (info.role == Role::output) outputs += row.verified_queries * info.shape.dim;
    if (info.role == Role::gradient) gradients += info.shape.elements();
  }
  if (const auto& sample = row.gradient_sample) {
    gradients = sample->queries * p.head_dim + (sample->keys + sample->extra_tokens) * (p.head_dim + p.head_dim_v) +
                sample->offsets;
  }
  return bytes + 12 * (outputs + gradients) + stored;
}

/// The tiling that the settings ask of a variant. One without tiles has no choice, and self attention keeps its best:
/// it is what others are compared with.
std::string_view tiling_for(const Variant& variant, Pass pass, const config::Settings& settings) {
  if (variant.candidates == nullptr || variant.self_attention_only) return kBestTiling;
  return is_backward(pass) ? settings.backward_tiling : settings.tiling;
}

/// Makes the plans of a row. Returns why one cannot be made; nullopt if all are.
std::optional<std::string> add_plans(PlannedRow& row, const config::Settings& settings, const Resources& resources) {
  for (const Pass pass : config::passes_of(row.pass)) {
    try {
      row.plans.push_back(make_plan(
          *row.variant, row.problem, pass,
          {.arithmetic = resources.arithmetic, .tiling = tiling_for(*row.variant, pass, settings), .isa = row.isa}));
    } catch (const Error& error) {
      row.plans.clear();
      return error.what();
    }
  }
  return std::nullopt;
}

/// The rules that a problem breaks. Self attention of a valid problem may have too many pairs to count.
std::optional<std::string> invalid(const Problem& problem) {
  try {
    problem.validate();
  } catch (const Error& error) {
    return error.what();
  }
  return std::nullopt;
}

std::optional<std::string> unsupported(const PlannedRow& row) {
  for (const Pass pass : config::passes_of(row.pass)) {
    if (auto reason = row.variant->supports(row.problem, pass)) return reason;
  }
  return std::nullopt;
}

std::optional<std::string> too_much_memory(const PlannedRow& row, const Resources& resources) {
  return lacks_memory(row, resources.memory_bytes, resources.memory_clause);
}

/// Whether the row computes gradients.
bool has_gradients(const PlannedRow& row) { return is_backward(config::passes_of(row.pass).back()); }

/// nullopt if all gradients are to be compared.
std::optional<verification::GradientSample> choose_gradient_sample(const PlannedRow& row, const config::Verify& verify,
                                                                   int threads) {
  const Problem& p = row.problem;
  if (!has_gradients(row) || gradient_oracle_seconds(p) <= verify.budget_seconds) return std::nullopt;
  verification::GradientSample sample;
  // The oracle of the operators on weights computes all gradients or none.
  if (row.pass != config::RowPass::forward_backward) return sample;
  sample.queries = std::min(row.total_queries, verify.sampled_queries);
  sample.keys = std::min(p.batch * p.tokens() * p.heads_kv, verify.sampled_queries);
  // All queries count for an extra token, and for an entry of the bias: only as many as the budget allows, possibly
  // none.
  const auto affordable = [&](int64_t rows, const verification::GradientSample& one) {
    const double most = verify.budget_seconds * threads / gradient_sample_seconds(p, one);
    return static_cast<int64_t>(std::min(most, static_cast<double>(std::min(rows, verify.sampled_queries))));
  };
  if (p.extra_tokens > 0) sample.extra_tokens = affordable(p.batch * p.extra_tokens * p.heads_kv, {.extra_tokens = 1});
  if (p.relative_bias) sample.offsets = affordable(p.heads * p.bias_entries(), {.offsets = 1});
  return sample;
}

void require_different_names(const std::vector<config::Config>& configs) {
  std::set<std::string> names;
  for (const config::Config& config : configs) {
    const std::string& name = config.title.name;
    if (names.insert(name).second) continue;
    throw Error(config.path + ": name: expected a name that no other configuration of the run has, got '" + name + "'");
  }
}

/// "table2_flux.256x256_w80x80_..._f32.q16x16_kv16x8_static.share0.518_dense9of28"
std::string simulation_id(const config::SimulationSettings& s) {
  return fmt::format("{}.{}.q{}_kv{}_{}.share{}_dense{}of{}{}", s.table, s.problem.problem(ElementType::f32).id(),
                     extents_text(s.q_tile), extents_text(s.kv_tile), config::name(s.kv_tiling),
                     s.application.attention_share, s.application.dense_steps, s.application.steps,
                     s.round_speedup ? "_rounded" : "");
}

/// Collects the groups, models and simulations that the filter lets through, each id once.
class Planner {
 public:
  Planner(const std::string& filter, const Resources& resources) : filter_("--filter", filter), resources_(resources) {}

  void add_group(const config::Config& config, const config::Run& run, const config::ProblemSettings& given,
                 ElementType type, config::RowPass pass, const std::vector<std::string>& variants) {
    const Problem problem = given.problem(type);
    Group group{{}, config.settings, run.device};
    group.settings.tiling = run.tiling.value_or(config.settings.tiling);
    group.settings.backward_tiling = run.backward_tiling.value_or(config.settings.backward_tiling);
    for (const std::string& variant : variants) {
      PlannedRow row = make_row(problem, find_variant(variant), pass, group.settings, resources_);
      row.config = config.title.name;
      row.label = row.problem.axes == problem.axes ? given.label : kSelfAttention;
      row.position = offered_;
      if (is_wanted(row.id, given.label)) group.rows.push_back(std::move(row));
    }
    if (!group.rows.empty()) plan_.groups.push_back(std::move(group));
  }

  void add_models(const config::Config& config, const config::Run& run, const config::ModelSettings& model,
                  ElementType type, const std::vector<std::string>& variants) {
    require_one_definition(config, model);
    ModelGroup group = make_model_group(model, type, variants, config.settings, resources_);
    group.device = run.device;
    for (PlannedModel& row : std::exchange(group.rows, {})) {
      row.config = config.title.name;
      row.position = offered_;
      if (is_wanted(row.id, row.label)) group.rows.push_back(std::move(row));
    }
    if (!group.rows.empty()) plan_.models.push_back(std::move(group));
  }

  void add_simulation(const config::Config& config, const config::SimulationSettings& settings) {
    std::string id = simulation_id(settings);
    if (!is_wanted(id, settings.problem.label)) return;
    plan_.simulations.push_back({std::move(id), config.title.name, settings});
  }

  RunPlan take() {
    if (!plan_.has_rows() && plan_.simulations.empty()) {
      throw Error("--filter '" + filter_.expression() + "' matches none of " + std::to_string(offered_) + " rows");
    }
    return std::move(plan_);
  }

 private:
  /// Ids have the name of a model alone.
  void require_one_definition(const config::Config& config, const config::ModelSettings& model) {
    const config::ModelSettings& first = *models_.emplace(model.model, &model).first->second;
    if (first.definitions_text == model.definitions_text) return;
    const auto source = [](const config::ModelSettings& settings) {
      return settings.definitions.empty() ? "nalab's own"
                                          : "that of " + settings.request(ElementType::f32).definitions_file;
    };
    throw Error(fmt::format("{}: models: expected one definition of {} in a run, got {} and {}", config.path,
                            model.model, source(first), source(model)));
  }

  /// Whether the filter lets it through and it is not yet in the plan.
  bool is_wanted(const std::string& id, const std::string& label) {
    ++offered_;
    if (!filter_.matches(id) && !filter_.matches(label)) return false;
    const bool is_new = ids_.insert(id).second;
    if (!is_new) ++plan_.repeated;
    return is_new;
  }

  Filter filter_;
  const Resources& resources_;
  RunPlan plan_;
  std::set<std::string> ids_;
  std::map<std::string, const config::ModelSettings*> models_;  ///< the first of each name
  int64_t offered_ = 0;
};

}  // namespace

int64_t RunPlan::rows() const {
  int64_t count = 0;
  for (const Group& group : groups) count += std::ssize(group.rows);
  for (const ModelGroup& group : models) count += std::ssize(group.rows);
  return count;
}

std::string row_id(const Problem& problem, const Variant& variant, config::RowPass pass,
                   const config::Settings& settings) {
  std::string id = fmt::format("{}.{}.{}", problem.id(), variant.name, config::name(pass));
  for (const Pass each : config::passes_of(pass)) {
    if (const auto tiling = tiling_for(variant, each, settings); tiling != kBestTiling) {
      id += fmt::format(".{}{}", is_backward(each) ? "backward_" : "", tiling);
    }
  }
  return id;
}

std::optional<std::string> lacks_memory(int64_t needed, int64_t workspace, int64_t bytes, std::string_view clause) {
  if (needed <= bytes) return std::nullopt;
  const std::string part = workspace == 0 ? "without workspace" : bytes_text(workspace) + " of it workspace";
  return fmt::format("needs {} of memory ({}), {} {}", bytes_text(needed), part, clause, bytes_text(bytes));
}

std::optional<std::string> lacks_memory(const PlannedRow& row, int64_t bytes, std::string_view clause) {
  return lacks_memory(row.memory_bytes, row.workspace_bytes, bytes, clause);
}

PlannedRow make_row(const Problem& problem, const Variant& variant, config::RowPass pass,
                    const config::Settings& settings, const Resources& resources) {
  PlannedRow row;
  row.problem = problem;
  if (pass == config::RowPass::values || pass == config::RowPass::values_backward) row.problem.relative_bias = false;
  const Problem self_attention = row.problem.self_attention();
  if (variant.self_attention_only) row.problem = self_attention;
  row.variant = &variant;
  row.pass = pass;
  row.isa = resources.isa;
  row.id = row_id(row.problem, variant, pass, settings);
  row.baseline = self_attention.id();
  row.total_queries = problem.batch * problem.tokens() * problem.heads;
  row.refusal = invalid(row.problem);
  if (row.refusal) return row;

  const bool affordable =
      oracle_seconds(row.problem, row.total_queries) / resources.threads <= settings.verify.budget_seconds;
  row.verified_queries = affordable ? row.total_queries : std::min(row.total_queries, settings.verify.sampled_queries);
  row.gradient_sample = choose_gradient_sample(row, settings.verify, resources.threads);
  // Such a row has no output: its queries are those whose gradients are compared.
  const bool only_gradients = has_gradients(row) && pass != config::RowPass::forward_backward;
  if (only_gradients) row.verified_queries = row.gradient_sample ? 0 : row.total_queries;
  row.attended_pairs = row.problem.attended_pairs();
  for (const Pass each : config::passes_of(pass)) {
    row.useful_flops += row.problem.useful_flops(each);
    row.tensor_bytes += row.problem.tensor_bytes(each);
  }
  row.stores_tensors = stores_tensors(row, settings.store.tensors);
  row.refusal = unsupported(row);
  if (row.refusal) return row;

  // The tensors alone first: what a variant says about problems beyond any machine's memory need not fit in 64 bits.
  row.memory_bytes = tensors_and_oracle_bytes(row);
  row.refusal = too_much_memory(row, resources);
  if (row.refusal) return row;

  row.refusal = add_plans(row, settings, resources);
  if (row.refusal) return row;
  for (const nalab::Plan& plan : row.plans) {
    row.executed_flops += plan.executed_flops();
    row.workspace_bytes = std::max(row.workspace_bytes, plan.workspace_bytes(resources.threads));
  }
  row.memory_bytes += row.workspace_bytes;
  row.refusal = too_much_memory(row, resources);
  if (row.refusal) return row;

  row.seconds = timing_seconds(settings.timing, call_seconds(row, resources.threads));
  if (!only_gradients) row.seconds += oracle_seconds(row.problem, row.verified_queries) / resources.threads;
  if (row.gradient_sample) {
    row.seconds += gradient_sample_seconds(row.problem, *row.gradient_sample) / resources.threads;
  } else if (has_gradients(row)) {
    row.seconds += gradient_oracle_seconds(row.problem);
  }
  return row;
}

RunPlan make_run_plan(const std::vector<config::Config>& configs, const std::string& filter,
                      const Resources& resources) {
  require_different_names(configs);
  Planner planner(filter, resources);
  for (const config::Config& config : configs) {
    for (const config::Run& run : config.settings.runs) {
      const config::Selection selection = config::select(config, run);
      for (const config::ProblemSettings* problem : selection.problems) {
        for (const ElementType type : selection.types) {
          for (const config::RowPass pass : selection.passes) {
            planner.add_group(config, run, *problem, type, pass, selection.variants);
          }
        }
      }
      for (const config::ModelSettings* model : selection.models) {
        for (const ElementType type : selection.types)
          planner.add_models(config, run, *model, type, selection.variants);
      }
    }
    for (const config::SimulationSettings& simulation : config.simulations) planner.add_simulation(config, simulation);
  }
  return planner.take();
}

void leave_out_absent_devices(RunPlan& plan) {
  const auto leave_out = [&plan](auto& groups) {
    std::erase_if(groups, [&plan](const auto& group) {
      const bool is_absent = group.device && why_not_here(*group.device);
      if (is_absent) plan.left_out[*group.device] += std::ssize(group.rows);
      return is_absent;
    });
  };
  leave_out(plan.groups);
  leave_out(plan.models);
}

void skip_finished(RunPlan& plan, const std::vector<std::string>& finished) {
  const std::set<std::string> done(finished.begin(), finished.end());
  const auto skip = [&done](auto& groups) {
    for (auto& group : groups) std::erase_if(group.rows, [&done](const auto& row) { return done.contains(row.id); });
    std::erase_if(groups, [](const auto& group) { return group.rows.empty(); });
  };
  skip(plan.groups);
  skip(plan.models);
  std::erase_if(plan.simulations, [&done](const Simulation& simulation) { return done.contains(simulation.id); });
}

}  // namespace nalab::plan
