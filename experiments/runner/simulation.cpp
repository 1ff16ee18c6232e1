#include "experiments/runner/simulation.h"

#include "core/simulator/simulator.h"
#include "store/rows.h"

namespace nalab::runner {

store::SimulationRow simulate(const plan::Simulation& simulation) {
  const config::SimulationSettings& settings = simulation.settings;
  const Problem problem = settings.problem.problem(ElementType::f32);
  const simulator::Simulation s = simulator::simulate(problem, settings.tiles());
  const auto end_to_end = [&settings](double speedup) {
    return simulator::end_to_end_speedup(settings.round_speedup ? simulator::round_as_published(speedup) : speedup,
                                         settings.application);
  };

  store::SimulationRow row;
  row.id = simulation.id;
  row.config = simulation.config;
  row.table = settings.table;
  row.label = settings.problem.label;
  store::describe(problem, row);
  row.q_tile = extents_text(settings.q_tile);
  row.kv_tile = extents_text(settings.kv_tile);
  row.tiles_note = settings.tiles_note;
  row.kv_tiling = config::name(settings.kv_tiling);
  row.attention_share = settings.application.attention_share;
  row.steps = settings.application.steps;
  row.dense_steps = settings.application.dense_steps;
  row.round_speedup = settings.round_speedup ? 1 : 0;
  row.query_tiles = s.query_tiles;
  row.tiles_total = s.tiles_total;
  row.tiles_visited_worst = s.tiles_visited_worst;
  row.tiles_visited = s.tiles_visited;
  row.tiles_full = s.tiles_full;
  row.attended_pairs = s.attended_pairs;
  row.computed_pairs = s.computed_pairs;
  row.all_pairs = s.all_pairs;
  row.speedup_flops = s.speedup_flops();
  row.speedup_worst = s.speedup_worst();
  row.speedup_mean = s.speedup_mean();
  row.end_to_end_flops = end_to_end(s.speedup_flops());
  row.end_to_end_simulated = end_to_end(s.speedup_worst());
  row.published_flops = settings.published.flops.value_or(0);
  row.published_simulated = settings.published.simulated.value_or(0);
  row.published_actual = settings.published.actual.value_or(0);
  row.exception = settings.exception;
  return row;
}

}  // namespace nalab::runner
