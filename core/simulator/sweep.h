// Which parameters are worth having: sweeps over the simulator, and recommendations.
#pragma once

#include <cstdint>
#include <vector>

#include "core/simulator/simulator.h"

namespace nalab::simulator {

/// What a sweep varies; everything else stays as given.
enum class SweepOver : uint8_t { stride, window, query_tile, kv_tile };

/// One point of a sweep.
struct SweepPoint {
  std::vector<int64_t> value;  ///< the stride, window or tile, one extent for each axis
  Simulation simulation;
};

/// The points worth having, by rising speedup_worst.
///
/// - stride: all strides up to the window; no larger stride without a better speedup.
/// - window: all windows from the stride up; no smaller window without a better speedup.
/// - query_tile, kv_tile: all shapes of up to as many tokens as the given one, each extent a power of two or as
///   large as the axis or the tokens allow; no smaller tile without a better speedup, so of each size only the fastest
///   are left.
///
/// Throws Error as simulate() does, for single-dimensional tiling, and for more than kMaxSweep combinations.
std::vector<SweepPoint> sweep(const Problem& problem, const TileShapes& tiles, SweepOver over);

inline constexpr int64_t kMaxSweep = int64_t{1} << 24;

/// A window and stride that waste nothing.
struct Recommendation {
  std::vector<int64_t> window;
  std::vector<int64_t> stride;  ///< the smallest that is perfectly block-sparse for the window
  Simulation simulation;
};

/// Windows and strides that are perfectly block-sparse with these tiles, and whose sparsity lies within `tolerance` of
/// the wanted one; the problem's own window and stride do not matter. The best first: the window that spans the most
/// even share of the axes, then the smaller stride, then the nearer sparsity. Empty if there are none.
///
/// Throws Error as sweep() does, if more than kMaxSweep query tiles of an axis must be looked at, and if sparsity or
/// tolerance is not from 0 to 1.
std::vector<Recommendation> recommend(const Problem& problem, const TileShapes& tiles, double sparsity,
                                      double tolerance = 0.01);

}  // namespace nalab::simulator
