// The simulator's counts, worked out pair by pair from the definition, with no help from core/geometry.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "core/simulator/simulator.h"

namespace nalab::simulator::brute_force {

using Coordinates = std::array<int64_t, 3>;

inline std::array<Axis, 3> three_axes(const Problem& problem) {
  std::array<Axis, 3> axes;
  for (int i = 0; i < problem.rank(); ++i) axes[3 - problem.rank() + i] = problem.axes[i];
  return axes;
}

inline std::array<int64_t, 3> three_extents(const std::vector<int64_t>& tile) {
  std::array<int64_t, 3> extents{1, 1, 1};
  for (size_t i = 0; i < tile.size(); ++i) extents[3 - tile.size() + i] = tile[i];
  return extents;
}

/// Whether coordinate i attends to coordinate j along an axis.
inline bool attends(const Axis& axis, int64_t i, int64_t j) {
  const int64_t w = axis.window, s = axis.stride, d = axis.dilation;
  if (i % d != j % d) return false;
  int64_t n = 0;
  for (int64_t x = i % d; x < axis.extent; x += d) ++n;
  const int64_t p = i / d, k = j / d;
  const int64_t left = w / 2, right = w / 2 + w % 2 - 1;
  const int64_t first = p / s * s;
  if (axis.causal) {
    const int64_t leader = std::min(first + s - 1, n - 1);
    return std::max<int64_t>(leader - left - right, 0) <= k && k <= p;
  }
  const int64_t leader = std::min(first + s / 2, n - 1);
  int64_t start = std::max<int64_t>(leader - left, 0);
  if (leader + right >= n) start -= leader + right + 1 - n;
  return start <= k && k < start + w;
}

inline bool attends(const std::array<Axis, 3>& axes, const Coordinates& i, const Coordinates& j) {
  return attends(axes[0], i[0], j[0]) && attends(axes[1], i[1], j[1]) && attends(axes[2], i[2], j[2]);
}

/// Tokens of the layout in row-major order.
inline std::vector<Coordinates> tokens_of(const std::array<Axis, 3>& axes) {
  std::vector<Coordinates> tokens;
  for (int64_t x = 0; x < axes[0].extent; ++x) {
    for (int64_t y = 0; y < axes[1].extent; ++y) {
      for (int64_t z = 0; z < axes[2].extent; ++z) tokens.push_back({x, y, z});
    }
  }
  return tokens;
}

/// Adds a query tile that visits some KV tiles.
inline void add(const std::array<Axis, 3>& axes, const std::vector<Coordinates>& queries,
                const std::vector<std::vector<Coordinates>>& visited, Simulation& counts) {
  counts.query_tiles += 1;
  counts.tiles_visited += static_cast<int64_t>(visited.size());
  counts.tiles_visited_worst = std::max(counts.tiles_visited_worst, static_cast<int64_t>(visited.size()));
  for (const auto& keys : visited) {
    bool full = true;
    for (const auto& q : queries) {
      for (const auto& k : keys) full = full && attends(axes, q, k);
    }
    counts.tiles_full += full ? 1 : 0;
    counts.computed_pairs += static_cast<int64_t>(queries.size() * keys.size());
  }
}

inline Simulation simulate(const Problem& problem, const TileShapes& tiles) {
  const auto axes = three_axes(problem);
  const auto q_tile = three_extents(tiles.query), kv_tile = three_extents(tiles.kv);
  const auto tokens = tokens_of(axes);
  const bool dynamic = tiles.kv_tiling == KvTiling::dynamic_tiles;
  Simulation counts{.query_tiles = 0,
                    .tiles_visited_worst = 0,
                    .tiles_visited = 0,
                    .tiles_full = 0,
                    .attended_pairs = 0,
                    .computed_pairs = 0};

  const auto group_of = [&](const Coordinates& x) {
    return Coordinates{x[0] % axes[0].dilation, x[1] % axes[1].dilation, x[2] % axes[2].dilation};
  };
  const auto position_of = [&](const Coordinates& x) {
    return Coordinates{x[0] / axes[0].dilation, x[1] / axes[1].dilation, x[2] / axes[2].dilation};
  };
  std::map<Coordinates, std::vector<Coordinates>> groups;
  for (const auto& x : tokens) groups[group_of(x)].push_back(x);

  for (const auto& [group, members] : groups) {
    if (tiles.tile_rank == TileRank::single_dimensional) {
      const int64_t n = static_cast<int64_t>(members.size());
      const int64_t tq = tiles.query_tokens(), tk = tiles.kv_tokens();
      for (int64_t a = 0; a < n; a += tq) {
        const std::vector<Coordinates> queries(members.begin() + a, members.begin() + std::min(a + tq, n));
        std::vector<std::vector<Coordinates>> visited;
        for (int64_t key = 0, covered = 0; key < n; ++key) {
          const bool needed = std::any_of(queries.begin(), queries.end(), [&, &tokens = members](const Coordinates& q) {
            return attends(axes, q, tokens[key]);
          });
          if (!needed || key < covered) continue;
          const int64_t begin = dynamic ? key : key - key % tk;
          covered = std::min(begin + tk, n);
          visited.emplace_back(members.begin() + begin, members.begin() + covered);
        }
        add(axes, queries, visited, counts);
      }
      continue;
    }
    std::map<Coordinates, std::vector<Coordinates>> query_tiles;
    for (const auto& x : members) {
      const Coordinates p = position_of(x);
      query_tiles[{p[0] / q_tile[0], p[1] / q_tile[1], p[2] / q_tile[2]}].push_back(x);
    }
    for (const auto& [index, queries] : query_tiles) {
      Coordinates origin{0, 0, 0};
      std::vector<Coordinates> needed;
      for (const auto& x : members) {
        if (std::any_of(queries.begin(), queries.end(), [&](const auto& q) { return attends(axes, q, x); })) {
          needed.push_back(position_of(x));
        }
      }
      if (dynamic) {
        origin = needed.front();
        for (const auto& p : needed) {
          for (int axis = 0; axis < 3; ++axis) origin[axis] = std::min(origin[axis], p[axis]);
        }
      }
      const auto tile_of = [&](const Coordinates& p) {
        Coordinates tile;
        for (int axis = 0; axis < 3; ++axis) {
          tile[axis] = p[axis] < origin[axis] ? -1 : (p[axis] - origin[axis]) / kv_tile[axis];
        }
        return tile;
      };
      std::set<Coordinates> visited;
      for (const auto& p : needed) visited.insert(tile_of(p));
      std::map<Coordinates, std::vector<Coordinates>> keys_of_tile;
      for (const auto& x : members) {
        const Coordinates tile = tile_of(position_of(x));
        if (visited.contains(tile)) keys_of_tile[tile].push_back(x);
      }
      std::vector<std::vector<Coordinates>> keys;
      for (const auto& entry : keys_of_tile) keys.push_back(entry.second);
      add(axes, queries, keys, counts);
    }
  }

  for (const auto& q : tokens) {
    for (const auto& k : tokens) counts.attended_pairs += attends(axes, q, k) ? 1 : 0;
  }
  const auto n = static_cast<int64_t>(tokens.size());
  counts.all_pairs = n * n;
  const auto round_up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  counts.tiles_total = tiles.tile_rank == TileRank::single_dimensional
                           ? round_up(n, tiles.kv_tokens())
                           : round_up(axes[0].extent, kv_tile[0]) * round_up(axes[1].extent, kv_tile[1]) *
                                 round_up(axes[2].extent, kv_tile[2]);
  // Extra tokens: their own KV tiles, each full, before every query tile.
  for (int64_t e = 0; e < problem.extra_tokens; ++e) {
    if (e % tiles.kv_tokens() == 0) {
      counts.tiles_total += 1;
      counts.tiles_visited_worst += 1;
      counts.tiles_visited += counts.query_tiles;
      counts.tiles_full += counts.query_tiles;
    }
    counts.attended_pairs += n;
    counts.computed_pairs += n;
    counts.all_pairs += n;
  }
  return counts;
}

}  // namespace nalab::simulator::brute_force
