#include "experiments/plan/models.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/plan.h"
#include "core/tensors.h"
#include "experiments/plan/estimate.h"
#include "experiments/plan/plan.h"

namespace nalab::plan {

namespace {

// Rough, for one thread: what everything but attention reaches, and how long a weight takes to be drawn and packed.
constexpr double kFlopsPerSecond = 60e9;
constexpr double kSecondsPerParameter = 60e-9;

std::vector<Pass> passes_of(const model::Request& request) {
  if (request.training) return {Pass::forward, Pass::backward};
  return {Pass::forward};
}

/// Without the size if nobody knows it.
std::string id_of(const PlannedModel& row) {
  const model::Request& r = row.request;
  const std::string size = row.facts.size > 0 ? fmt::format("_{}x{}", row.facts.size, row.facts.size) : "";
  const std::string pass = config::name(r.training ? config::ModelPass::training_step : config::ModelPass::forward);
  return fmt::format("{}{}{}_b{}_{}.{}.{}", r.name, size, r.relative_bias ? "_rpb" : "", r.batch, name(r.type),
                     row.variant->name, pass);
}

/// Seconds that the reference attention takes for one image.
double reference_seconds(const model::Facts& facts, const model::Request& request) {
  double seconds = 0;
  for (const model::RepeatedProblem& layer : facts.attention) {
    Problem one = layer.problem;
    one.batch = 1;
    for (const Pass pass : passes_of(request)) {
      seconds += static_cast<double>(layer.times) * oracle_pass_seconds(one, pass);
    }
  }
  return seconds;
}

/// Seconds of the row's attention in one call. Notes its workspace and arithmetic; throws Error if the variant does not
/// compute a layer.
double plan_attention(PlannedModel& row, const Resources& resources) {
  if (row.variant->device != Device::cpu) throw Error("models compute on the CPU");
  std::set<std::string> arithmetics;
  double seconds = 0;
  for (const model::RepeatedProblem& layer : row.facts.attention) {
    for (const Pass pass : passes_of(row.request)) {
      const nalab::Plan plan =
          make_plan(*row.variant, layer.problem, pass, {.arithmetic = resources.arithmetic, .isa = row.isa});
      arithmetics.emplace(plan.arithmetic_name());
      row.workspace_bytes = std::max(row.workspace_bytes, plan.workspace_bytes(resources.threads));
      const double rate = row.variant->expected_flops_per_second * resources.threads;
      seconds += static_cast<double>(layer.times) * (row.variant->is_oracle
                                                         ? oracle_pass_seconds(layer.problem, pass)
                                                         : static_cast<double>(plan.executed_flops()) / rate);
    }
  }
  for (const std::string& arithmetic : arithmetics) row.arithmetic += (row.arithmetic.empty() ? "" : " ") + arithmetic;
  return seconds;
}

/// What a call computes beside attention, FLOPs.
double other_flops(const PlannedModel& row) {
  const double share =
      1 - static_cast<double>(row.facts.attention_multiply_adds) / static_cast<double>(row.facts.multiply_adds);
  return share * static_cast<double>(flops_of_call(row));
}

/// What a layer of each variant keeps of its own: a number for each query.
int64_t lse_bytes(const model::Facts& facts) {
  int64_t numbers = 0;
  for (const model::RepeatedProblem& layer : facts.attention) {
    numbers += layer.times * lse_shape(layer.problem).elements();
  }
  return 4 * numbers;
}

/// Of training two copies of the gradients are compared; of inference two of the batch's results, besides one of an
/// image's.
int64_t compared_bytes(const PlannedModel& row) {
  if (row.request.training) return 8 * row.facts.parameters;
  return 4 * row.facts.result_elements * (2 * row.request.batch + 1);
}

/// Everything of a row whose group has so many rows.
void plan_row(PlannedModel& row, const config::Settings& settings, const Resources& resources, std::size_t rows) {
  row.reference_seconds = reference_seconds(row.facts, row.request);
  row.has_reference = row.reference_seconds <= settings.verify.budget_seconds;
  double attention = 0;
  try {
    attention = plan_attention(row, resources);
  } catch (const Error& error) {
    row.refusal = error.what();
    return;
  }
  row.memory_bytes = row.facts.weight_bytes + row.facts.value_bytes + row.workspace_bytes +
                     lse_bytes(row.facts) * static_cast<int64_t>(rows) + compared_bytes(row);
  row.refusal = lacks_memory(row, resources.memory_bytes, resources.memory_clause);
  if (row.refusal) return;

  const double call = attention + other_flops(row) / (kFlopsPerSecond * resources.threads);
  double once = 2 * kSecondsPerParameter * static_cast<double>(row.facts.parameters);
  if (row.has_reference) once += row.reference_seconds + call / static_cast<double>(row.request.batch);
  row.seconds = timing_seconds(settings.timing, call) + once / static_cast<double>(rows);
}

}  // namespace

int64_t flops_of_call(const PlannedModel& row) {
  return 2 * row.facts.multiply_adds * row.request.batch * (row.request.training ? 3 : 1);
}

std::optional<std::string> lacks_memory(const PlannedModel& row, int64_t bytes, std::string_view clause) {
  return lacks_memory(row.memory_bytes, row.workspace_bytes, bytes, clause);
}

ModelGroup make_model_group(const config::ModelSettings& model, ElementType type,
                            const std::vector<std::string>& variants, const config::Settings& settings,
                            const Resources& resources) {
  ModelGroup group{{}, settings, resources.arithmetic};
  PlannedModel common;
  common.label = model.label;
  common.request = model.request(type);
  common.isa = resources.isa;
  common.facts.size = common.request.size;
  try {
    common.facts = model::facts(common.request);
  } catch (const Error& error) {
    common.refusal = error.what();
  }
  if (type == ElementType::f16) common.refusal = "models compute in f32 and bf16, not in f16";
  for (const std::string& variant : variants) {
    PlannedModel& row = group.rows.emplace_back(common);
    row.variant = &find_variant(variant);
    row.id = id_of(row);
    if (!row.refusal) plan_row(row, settings, resources, variants.size());
  }
  return group;
}

}  // namespace nalab::plan
