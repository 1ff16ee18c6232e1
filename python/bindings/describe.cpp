#include "python/bindings/describe.h"

#include <string>

#include "core/error.h"
#include "core/kernels/registry.h"
#include "core/nalab.h"
#include "core/simulator/simulator.h"
#include "python/bindings/released_gil.h"
#include "python/bindings/session.h"

namespace nalab::python {

namespace {

nb::str text(std::string_view view) { return nb::str(view.data(), view.size()); }

}  // namespace

Problem describe_problem(nb::handle layout, const Neighborhood& neighborhood, const Extents& extents,
                         bool relative_bias, std::string_view dtype) {
  Problem problem;
  problem.axes = neighborhood.axes(per_axis("layout", layout, rank_of_layout(layout)));
  problem.batch = extents.batch;
  problem.heads = extents.heads;
  problem.heads_kv = extents.heads_kv;
  problem.head_dim = extents.head_dim;
  problem.head_dim_v = extents.head_dim_v;
  problem.extra_tokens = extents.extra_tokens;
  problem.relative_bias = relative_bias;
  problem.type = parse_dtype(dtype);
  problem.validate();
  return problem;
}

nb::dict describe_plan(const Problem& problem, std::string_view pass_name, std::string_view variant, int threads) {
  const Pass pass = parse_pass(pass_name);
  const auto plan = plan_for(problem, pass, variant, true);
  nb::dict others;
  for (const Variant& other : variants()) {
    if (other.name == plan->variant_name()) continue;
    const auto reason = other.supports(problem, pass);
    const std::string possible = other.device == Device::cpu ? "computes it too; expected to be slower"
                                                             : "computes it too, on a GPU; only if it is named";
    others[text(other.name)] = text(reason ? *reason : possible);
  }
  if (!variant.empty()) others = nb::dict();  // nothing was chosen
  nb::dict description;
  description["variant"] = text(plan->variant_name());
  description["pass_"] = text(name(pass));
  description["arithmetic"] = text(plan->arithmetic_name());
  description["isa"] = text(name(plan->isa()));
  const std::string tiling = plan->tiling_text();
  description["tiling"] = tiling.empty() ? nb::object(nb::none()) : nb::object(text(tiling));
  const int used = choose_threads(threads);
  description["threads"] = used;
  description["workspace_bytes"] = plan->workspace_bytes(used);
  description["tensor_bytes"] = problem.tensor_bytes(pass);
  description["useful_flops"] = problem.useful_flops(pass);
  description["executed_flops"] = plan->executed_flops();
  description["problem"] = text(problem.id());
  description["others"] = others;
  return description;
}

nb::list describe_variants() {
  nb::list list;
  for (const Variant& variant : variants()) {
    list.append(nb::make_tuple(text(variant.name), text(variant.paper_term), text(variant.summary),
                               text(name(variant.device))));
  }
  return list;
}

nb::dict describe_simulation(const Problem& problem, nb::handle q_tile, nb::handle kv_tile, bool dynamic_kv,
                             bool single_dimensional) {
  simulator::TileShapes tiles = simulator::published_tiles(problem.rank());
  if (!q_tile.is_none()) tiles.query = per_axis("q_tile", q_tile, problem.rank());
  if (!kv_tile.is_none()) tiles.kv = per_axis("kv_tile", kv_tile, problem.rank());
  if (dynamic_kv) tiles.kv_tiling = simulator::KvTiling::dynamic_tiles;
  if (single_dimensional) tiles.tile_rank = simulator::TileRank::single_dimensional;
  const simulator::Simulation simulation = [&] {
    const ReleasedGil released;
    return simulator::simulate(problem, tiles);
  }();
  nb::dict description;
  description["q_tile"] = to_tuple(tiles.query);
  description["kv_tile"] = to_tuple(tiles.kv);
  description["tiles_total"] = simulation.tiles_total;
  description["tiles_visited_worst"] = simulation.tiles_visited_worst;
  description["tiles_visited_mean"] = simulation.tiles_visited_mean();
  description["partial_tiles_share"] = simulation.partial_tiles_share();
  description["wasted_share"] = simulation.wasted_share();
  description["sparsity"] = simulation.sparsity();
  description["speedup_worst"] = simulation.speedup_worst();
  description["speedup_mean"] = simulation.speedup_mean();
  description["speedup_flops"] = simulation.speedup_flops();
  description["perfectly_block_sparse"] = simulation.perfectly_block_sparse();
  return description;
}

nb::dict describe_machine(int threads) {
  nb::dict description;
  const Machine& machine = host_machine();
  description["isa"] = text(name(choose_isa()));
  nb::list isas;
  for (const Isa isa : all_isas()) {
    if (cpu_supports(isa)) isas.append(text(name(isa)));
  }
  description["isas"] = nb::tuple(isas);
  description["threads"] = choose_threads(threads);
  description["l1d_bytes"] = machine.l1d_bytes;
  description["l2_bytes"] = machine.l2_bytes;
  description["l3_bytes"] = machine.l3_bytes;
  return description;
}

}  // namespace nalab::python
