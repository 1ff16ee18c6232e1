#include "cli/sim/request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace nalab::cli {

using geometry::KvTiling;
using simulator::TileRank;

namespace {

using Extents = std::vector<int64_t>;

/// One value for each axis; a single one stands for all.
Extents parse_per_axis(const char* option, std::string_view text, const Problem& problem) {
  Extents extents = parse_extents(option, text);
  const size_t rank = problem.axes.size();
  if (extents.size() == 1) extents.resize(rank, extents.front());
  if (extents.size() != rank) {
    throw Error(fmt::format("{} {} has {} extents, but the layout {} has {} axes", option, text, extents.size(),
                            layout_text(problem), rank));
  }
  return extents;
}

Problem read_problem(const SimOptions& options) {
  Problem problem{.axes = {},
                  .batch = options.batch,
                  .heads = options.heads,
                  .heads_kv = options.heads,
                  .head_dim = options.head_dim,
                  .head_dim_v = options.head_dim,
                  .extra_tokens = options.extra_kv,
                  .relative_bias = options.relative_bias,
                  .type = parse_element_type(options.type)};
  for (const int64_t extent : parse_extents("--layout", options.layout)) problem.axes.push_back({.extent = extent});
  problem.validate();  // before the other options, so that their messages speak of a layout that stands

  const Extents dilation = parse_per_axis("--dilation", options.dilation, problem);
  // The option without a value arrives as an empty text.
  const Extents causal = parse_per_axis("--causal", options.causal.empty() ? "1" : options.causal, problem);
  const Extents stride = parse_per_axis("--stride", options.stride, problem);
  // A sweep over windows and a recommendation choose the window themselves.
  const bool any_window = options.window.empty() && (options.sweep == "window" || options.recommend);
  if (options.window.empty() && !any_window) throw Error("--window is required");
  const Extents window = any_window ? Extents{} : parse_per_axis("--window", options.window, problem);
  for (int i = 0; i < problem.rank(); ++i) {
    Axis& axis = problem.axes[i];
    if (causal[i] != 0 && causal[i] != 1) throw Error(fmt::format("--causal {} must hold 0 or 1", options.causal));
    axis.causal = causal[i] == 1;
    axis.dilation = dilation[i];
    axis.stride = stride[i];
    axis.window = any_window ? axis.extent / std::max<int64_t>(axis.dilation, 1) : window[i];
  }
  problem.validate();
  return problem;
}

}  // namespace

double SimRequest::end_to_end(double speedup) const {
  return simulator::end_to_end_speedup(options.round_speedup ? simulator::round_as_published(speedup) : speedup,
                                       options.application);
}

SimRequest read_request(const SimOptions& options) {
  SimRequest request{.options = options, .problem = read_problem(options), .tiles = {}};
  request.tiles = simulator::published_tiles(request.problem.rank());
  if (!options.q_tile.empty()) request.tiles.query = parse_per_axis("--q-tile", options.q_tile, request.problem);
  if (!options.kv_tile.empty()) request.tiles.kv = parse_per_axis("--kv-tile", options.kv_tile, request.problem);
  if (options.kv_tiling == "dynamic") request.tiles.kv_tiling = KvTiling::dynamic_tiles;
  if (options.tiling == "single") request.tiles.tile_rank = TileRank::single_dimensional;
  request.tiles.validate(request.problem);
  options.application.validate();
  if (options.bandwidth && !(*options.bandwidth > 0 && std::isfinite(*options.bandwidth))) {
    throw Error(fmt::format("--bandwidth {} must be greater than 0 and finite", *options.bandwidth));
  }
  if (!options.plot.empty() && !options.plot.ends_with(".svg") && !options.plot.ends_with(".png")) {
    throw Error(fmt::format("--plot {} must end in .svg or .png", options.plot));
  }
  if (options.rows < 0) throw Error(fmt::format("--rows {} must be at least 0", options.rows));
  return request;
}

}  // namespace nalab::cli
