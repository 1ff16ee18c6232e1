// What nalab sim is asked to do: the options as given, and as read and checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/simulator/simulator.h"

namespace nalab::cli {

/// The options of nalab sim. Per-axis options are texts such as "30x48x80", or one value for all axes.
struct SimOptions {
  std::string layout, window, stride = "1", dilation = "1";
  std::string causal = "0";     ///< empty: all axes
  std::string q_tile, kv_tile;  ///< empty: the tiles of the published figures
  std::string kv_tiling = "static", tiling = "multi";
  int64_t extra_kv = 0, batch = 1, heads = 1, head_dim = 128;
  bool relative_bias = false;
  std::string type = "bf16";
  std::optional<double> bandwidth;  ///< GB/s
  simulator::Application application;
  bool round_speedup = false;
  std::string sweep;                ///< empty: none
  std::optional<double> recommend;  ///< sparsity
  std::string plot;                 ///< path; empty: none
  int64_t rows = 40;                ///< of a table; 0: all
  bool json = false;
};

struct SimRequest {
  SimOptions options;
  Problem problem;
  simulator::TileShapes tiles;

  /// Speedup of the application if attention is faster by the factor `speedup`.
  double end_to_end(double speedup) const;
};

/// Throws Error naming the option or the axis, its value and the rule.
SimRequest read_request(const SimOptions& options);

}  // namespace nalab::cli
