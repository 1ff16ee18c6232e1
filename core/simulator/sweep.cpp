#include "core/simulator/sweep.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <tuple>

#include "core/error.h"
#include "core/simulator/counting.h"

namespace nalab::simulator {

using geometry::Axis;
using geometry::AxisMask;
using geometry::kAxes;
using geometry::Range;
using geometry::TileAxis;
using geometry::TileView;
using geometry::view_of;

namespace {

/// One value of what is varied along one axis, with the axis as it is then.
struct Choice {
  int64_t value = 1;
  Axis axis;
  Simulation counts;
};

/// The choices along each axis, in a sweep the most wanted first; leading axes that the layout lacks have one.
using Choices = std::array<std::vector<Choice>, kAxes>;
/// One index into the choices per axis.
using Index = std::array<int64_t, kAxes>;

void require_multi_dimensional(const Problem& problem, const TileShapes& tiles) {
  validate(problem, tiles);
  if (tiles.tile_rank == TileRank::single_dimensional) {
    throw Error("sweeps and recommendations need multi-dimensional tiling");
  }
}

/// Throws Error if there are too many combinations.
void require_countable(double combinations) {
  if (combinations <= static_cast<double>(kMaxSweep)) return;
  throw Error("there are more than " + std::to_string(kMaxSweep) + " combinations to try");
}

/// The choices of a problem's axes, each made by choices_of(axis, query tile extent, KV tile extent).
template <class ChoicesOf>
Choices make_choices(const Problem& problem, const TileShapes& tiles, const ChoicesOf& choices_of) {
  Choices choices;
  choices.fill({Choice{}});
  for (int i = 0; i < problem.rank(); ++i) {
    choices[kAxes - problem.rank() + i] = choices_of(problem.axes[i], tiles.query[i], tiles.kv[i]);
  }
  return choices;
}

double combinations(const Choices& choices) {
  double count = 1;
  for (const auto& axis : choices) count *= static_cast<double>(axis.size());
  return count;
}

/// Calls visit(index) for every combination, the last axis fastest.
template <class Visit>
void for_each_combination(const Choices& choices, const Visit& visit) {
  Index i{};
  const auto size = [&choices](int axis) { return static_cast<int64_t>(choices[axis].size()); };
  for (i[0] = 0; i[0] < size(0); ++i[0]) {
    for (i[1] = 0; i[1] < size(1); ++i[1]) {
      for (i[2] = 0; i[2] < size(2); ++i[2]) visit(i);
    }
  }
}

/// The values of a combination along the axes of the layout.
template <class Value>
std::vector<int64_t> values(const Problem& problem, const Choices& choices, const Index& index, const Value& value) {
  std::vector<int64_t> result;
  for (int axis = kAxes - problem.rank(); axis < kAxes; ++axis) result.push_back(value(choices[axis][index[axis]]));
  return result;
}

Simulation counts_of(const Problem& problem, const Choices& choices, const Index& i, int64_t kv_tokens) {
  return with_extra_tokens(choices[0][i[0]].counts * choices[1][i[1]].counts * choices[2][i[2]].counts, problem,
                           kv_tokens);
}

SweepPoint point(const Problem& problem, const Choices& choices, const Index& index, int64_t kv_tokens) {
  return {values(problem, choices, index, [](const Choice& choice) { return choice.value; }),
          counts_of(problem, choices, index, kv_tokens)};
}

/// The combinations for which no other one, at least as wanted along every axis, visits as few tiles.
std::vector<SweepPoint> not_dominated(const Problem& problem, const Choices& choices, int64_t kv_tokens) {
  // fewest[i]: the least number of tiles visited by a combination that is at least as wanted as i along every axis.
  std::vector<int64_t> fewest(static_cast<size_t>(combinations(choices)));
  const int64_t row = static_cast<int64_t>(choices[2].size());
  const Index step{row * static_cast<int64_t>(choices[1].size()), row, 1};
  std::vector<SweepPoint> kept;
  int64_t flat = 0;
  for_each_combination(choices, [&](const Index& i) {
    int64_t before = std::numeric_limits<int64_t>::max();
    int64_t visited = 1;
    for (int axis = 0; axis < kAxes; ++axis) {
      visited *= choices[axis][i[axis]].counts.tiles_visited_worst;
      if (i[axis] > 0) before = std::min(before, fewest[flat - step[axis]]);
    }
    if (visited < before) kept.push_back(point(problem, choices, i, kv_tokens));
    fewest[flat++] = std::min(visited, before);
  });
  return kept;
}

/// 1, 2, 4 ... up to `most`, and `most` itself.
std::vector<int64_t> powers_of_two(int64_t most) {
  std::vector<int64_t> values;
  for (int64_t value = 1; value < most; value *= 2) values.push_back(value);
  values.push_back(most);
  return values;
}

/// The tile shapes that no other shape of at least as many tokens beats.
std::vector<SweepPoint> best_tiles(const Problem& problem, const TileShapes& tiles, SweepOver over) {
  const bool of_queries = over == SweepOver::query_tile;
  Effort effort;
  const int64_t most_tokens = of_queries ? tiles.query_tokens() : tiles.kv_tokens();
  const Choices choices = make_choices(problem, tiles, [&](const Axis& axis, int64_t query, int64_t kv) {
    std::vector<Choice> shapes;
    for (const int64_t extent : powers_of_two(std::min({most_tokens, axis.extent, kMaxTileExtent}))) {
      const Simulation counts =
          count_axis(axis, of_queries ? extent : query, of_queries ? kv : extent, tiles.kv_tiling, effort);
      shapes.push_back({extent, axis, counts});
    }
    return shapes;
  });
  struct Candidate {
    int64_t tokens;
    SweepPoint point;
  };
  std::vector<Candidate> candidates;
  for_each_combination(choices, [&](const Index& i) {
    const int64_t tokens = choices[0][i[0]].value * choices[1][i[1]].value * choices[2][i[2]].value;
    if (tokens > most_tokens) return;
    candidates.push_back({tokens, point(problem, choices, i, of_queries ? tiles.kv_tokens() : tokens)});
  });
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    const double speed_a = a.point.simulation.speedup_worst();
    const double speed_b = b.point.simulation.speedup_worst();
    return std::tie(b.tokens, speed_b) < std::tie(a.tokens, speed_a);
  });
  std::vector<SweepPoint> kept;
  int64_t tokens_of_best = 0;
  double best = 0;
  for (const Candidate& candidate : candidates) {
    const double speedup = candidate.point.simulation.speedup_worst();
    if (speedup < best || (speedup == best && candidate.tokens < tokens_of_best)) continue;
    best = speedup;
    tokens_of_best = candidate.tokens;
    kept.push_back(candidate.point);
  }
  return kept;
}

int64_t largest_window(const Axis& axis) { return axis.extent / axis.dilation; }

/// All strides of an axis, the smallest first.
std::vector<Choice> strides(Axis axis, int64_t query_tile, int64_t kv_tile, KvTiling tiling, Effort& effort) {
  std::vector<Choice> choices;
  effort.require(axis.window * TileAxis{axis.extent, query_tile}.count());
  for (axis.stride = 1; axis.stride <= axis.window; ++axis.stride) {
    choices.push_back({axis.stride, axis, count_axis(axis, query_tile, kv_tile, tiling, effort)});
  }
  return choices;
}

/// Of the windows of an axis that visit as many KV tiles as each other the largest; the largest of all first. A window
/// holds all smaller ones, so they follow one another, and where the next ones begin is found by bisection.
std::vector<Choice> windows(Axis axis, int64_t query_tile, int64_t kv_tile, KvTiling tiling, Effort& effort) {
  std::vector<Choice> choices;
  const int64_t least = axis.stride;
  for (int64_t window = largest_window(axis); window >= least;) {
    axis.window = window;
    choices.push_back({window, axis, count_axis(axis, query_tile, kv_tile, tiling, effort)});
    const int64_t visited = choices.back().counts.tiles_visited_worst;
    window = least - 1 + first_where(window - least, [&](int64_t more) {
               axis.window = least + more;
               return most_visited(axis, query_tile, kv_tile, tiling, effort) == visited;
             });
  }
  return choices;
}

/// The strides or windows along each axis, the most wanted first: small strides, large windows.
Choices parameters(const Problem& problem, const TileShapes& tiles, SweepOver over) {
  if (over == SweepOver::stride) {
    double count = 1;
    for (const Axis& axis : problem.axes) count *= static_cast<double>(axis.window);
    require_countable(count);
  }
  Effort effort;
  Choices choices = make_choices(problem, tiles, [&](const Axis& axis, int64_t query, int64_t kv) {
    return over == SweepOver::stride ? strides(axis, query, kv, tiles.kv_tiling, effort)
                                     : windows(axis, query, kv, tiles.kv_tiling, effort);
  });
  require_countable(combinations(choices));
  return choices;
}

bool wastes_nothing(const AxisMask& mask, Range queries, int64_t kv_tile, KvTiling tiling) {
  const TileView view = view_of(mask, queries, kv_tile, tiling);
  return view.visited.size() == view.full.size();
}

/// count_axis(...).perfectly_block_sparse(), but gives up at the first tile that is partial. Adds the query tiles that
/// were looked at to `looked_at`.
bool perfectly_block_sparse(const Axis& axis, int64_t query_tile, int64_t kv_tile, KvTiling tiling,
                            int64_t& looked_at) {
  for (const GroupKind& kind : group_kinds(axis)) {
    const TileAxis query_tiles{kind.mask.length, query_tile};
    const auto fits = [&](int64_t i) {
      ++looked_at;
      return wastes_nothing(kind.mask, query_tiles.range(i), kv_tile, tiling);
    };
    // The middle first: near the ends, windows are clamped, and fit more often than elsewhere.
    if (!fits(query_tiles.count() / 2)) return false;
    for (int64_t i = 0; i < query_tiles.count(); ++i) {
      if (!fits(i)) return false;
    }
  }
  return true;
}

/// Whether some stride might be perfectly block-sparse: what the first and the last query attend to does not depend on
/// the stride, and must consist of whole KV tiles (of dynamic ones, the last query's may begin anywhere).
bool ends_fit(const Axis& axis, int64_t kv_tile, KvTiling tiling) {
  for (const GroupKind& kind : group_kinds(axis)) {
    const int64_t last = kind.mask.length - 1;
    if (!wastes_nothing(kind.mask, {0, 1}, kv_tile, tiling)) return false;
    if (tiling == KvTiling::static_tiles && !wastes_nothing(kind.mask, {last, last + 1}, kv_tile, tiling)) return false;
  }
  return true;
}

double attended_share(const Axis& axis) {
  return static_cast<double>(axis.attended_pairs()) / static_cast<double>(axis.extent * axis.extent);
}

/// The windows of an axis that cover at least a share of its pairs and that some stride makes perfectly block-sparse,
/// each with the smallest such stride.
std::vector<Choice> without_waste(Axis axis, int64_t query_tile, int64_t kv_tile, KvTiling tiling, double least_share) {
  std::vector<Choice> found;
  Effort effort;
  int64_t looked_at = 0;
  for (axis.window = largest_window(axis); axis.window >= 1; --axis.window) {
    axis.stride = 1;
    if (attended_share(axis) < least_share) break;  // a larger stride does not attend to more
    if (!ends_fit(axis, kv_tile, tiling)) continue;
    while (axis.stride <= axis.window && !perfectly_block_sparse(axis, query_tile, kv_tile, tiling, looked_at)) {
      require_countable(static_cast<double>(looked_at));
      ++axis.stride;
    }
    if (axis.stride > axis.window) continue;
    found.push_back({axis.window, axis, count_axis(axis, query_tile, kv_tile, tiling, effort)});
  }
  return found;
}

/// Least share of an axis that a window spans over the geometric mean of the shares: 1 for a window that spans the same
/// share of every axis, less for a lopsided one.
double evenness(const Problem& problem, const std::vector<int64_t>& window) {
  double least = 1;
  double all = 1;
  for (int i = 0; i < problem.rank(); ++i) {
    const Axis& axis = problem.axes[i];
    const double share = static_cast<double>(window[i] * axis.dilation) / static_cast<double>(axis.extent);
    least = std::min(least, share);
    all *= share;
  }
  return least / std::pow(all, 1.0 / problem.rank());
}

int64_t product(const std::vector<int64_t>& extents) {
  return std::accumulate(extents.begin(), extents.end(), int64_t{1}, std::multiplies<>());
}

void require_share(const char* parameter, double value) {
  if (!(value >= 0 && value <= 1))
    throw Error(std::string(parameter) + " " + std::to_string(value) + " must be from 0 to 1");
}

}  // namespace

std::vector<SweepPoint> sweep(const Problem& problem, const TileShapes& tiles, SweepOver over) {
  require_multi_dimensional(problem, tiles);
  const bool of_tiles = over == SweepOver::query_tile || over == SweepOver::kv_tile;
  std::vector<SweepPoint> points = of_tiles
                                       ? best_tiles(problem, tiles, over)
                                       : not_dominated(problem, parameters(problem, tiles, over), tiles.kv_tokens());
  std::stable_sort(points.begin(), points.end(), [](const SweepPoint& a, const SweepPoint& b) {
    return a.simulation.speedup_worst() < b.simulation.speedup_worst();
  });
  return points;
}

std::vector<Recommendation> recommend(const Problem& problem, const TileShapes& tiles, double sparsity,
                                      double tolerance) {
  require_share("sparsity", sparsity);
  require_share("tolerance", tolerance);
  require_multi_dimensional(problem, tiles);
  // What the layout must contribute besides the extra tokens, which are always attended to.
  const double extra = static_cast<double>(problem.extra_tokens) / static_cast<double>(problem.tokens());
  const double least_share = (1 - sparsity - tolerance) * (1 + extra) - extra;
  const Choices choices = make_choices(problem, tiles, [&](const Axis& axis, int64_t query, int64_t kv) {
    return without_waste(axis, query, kv, tiles.kv_tiling, least_share);
  });
  require_countable(combinations(choices));
  std::vector<Recommendation> found;
  for_each_combination(choices, [&](const Index& i) {
    const Simulation simulation = counts_of(problem, choices, i, tiles.kv_tokens());
    if (std::abs(simulation.sparsity() - sparsity) > tolerance) return;
    found.push_back({values(problem, choices, i, [](const Choice& choice) { return choice.axis.window; }),
                     values(problem, choices, i, [](const Choice& choice) { return choice.axis.stride; }), simulation});
  });
  const auto rank = [&](const Recommendation& r) {
    return std::tuple(-evenness(problem, r.window), product(r.stride), std::abs(r.simulation.sparsity() - sparsity));
  };
  std::stable_sort(found.begin(), found.end(),
                   [&](const Recommendation& a, const Recommendation& b) { return rank(a) < rank(b); });
  return found;
}

}  // namespace nalab::simulator
