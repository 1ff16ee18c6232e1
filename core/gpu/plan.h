// The plan of a GPU kernel, made on the host and free of CUDA: which tiles there are, what each warpgroup visits, how
// pairs are masked, and what it all costs. core/gpu/plan_data.h describes the structs and the walk.
//
// Which keys a query attends to is asked of core/geometry alone. Everything is a product over the axes: so a plan
// holds tiles along each axis, and query tiles are triples of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/gpu/plan_data.h"
#include "core/problem.h"

namespace nalab::gpu {

/// What the choice of tiles must know about a GPU. The defaults are an H100's.
struct GpuLimits {
  int multiprocessors = 132;
  int64_t shared_bytes = int64_t{227} << 10;  ///< that a thread block may have
};

/// Everything that a kernel walks for a problem, the same for every head and batch entry.
struct TilePlan {
  PlanHeader header{};
  std::vector<Group> groups;           ///< row-major over the axes' dilation groups
  std::vector<AxisTile> axis_tiles;    ///< of axis 0, then 1, then 2
  std::vector<KeyRange> key_ranges;    ///< along each axis, for each length of its groups
  std::vector<QueryTile> query_tiles;  ///< those with the most work first, equal ones in row-major order
  int64_t visits = 0;                  ///< of a tile by a warpgroup, extra tokens included; one head of one batch entry

  const TileShape& shape() const { return header.shape; }
};

/// Why no plan can be made for a valid problem, as the end of a sentence; nullopt if one can.
std::optional<std::string> cannot_plan(const Problem& problem);

/// The tile shapes that suit a problem in the order of their expected time, the best first, at most `most`: at least
/// one with an H100's shared memory, none if two stages do not fit. Requires a valid problem that cannot_plan() has
/// nothing against.
std::vector<TileShape> tile_shapes(const Problem& problem, const GpuLimits& limits, std::size_t most);

/// The plan of a problem with a shape of tile_shapes().
TilePlan make_tile_plan(const Problem& problem, const TileShape& shape);
/// With the first of them. Throws Error if there is none.
TilePlan make_tile_plan(const Problem& problem, const GpuLimits& limits = {});

/// Channels that rows of q, k and v take in shared memory, head_dim and head_dim_v alike: 64 or 128.
int64_t padded_dim(const Problem& problem);

/// The greatest |lse| with which a kernel's results can be trusted. bf16 holds products as great as the bias that masks
/// (kMasked), so a masked score may be the greatest of all. Where float32 has rounded the sum of the two, it is 0 or
/// above 1e22 in magnitude; unless it is 0, lse, which is about that times the scale, is above this.
float largest_lse(const Problem& problem);

/// Shared memory of a thread block: 128 queries; `stages` tiles of keys and of values; for a one-hot mask `bias_slots`
/// inner biases for each warpgroup, and kOuterBiases outer ones that both share, each of 8 bf16 a key; and
/// kBarrierBytes.
int64_t shared_bytes(const TileShape& shape, const Problem& problem);

/// Multiply-adds times 2 of both products, padding and masked pairs included, over batch and heads. The product that
/// masks is not counted.
int64_t executed_flops(const TilePlan& plan, const Problem& problem);

/// "q4x8x4_split2_kv1x4x28_n112_stages2_one_hot", with "_ping_pong" at the end if the warpgroups take turns.
std::string to_string(const TileShape& shape);

}  // namespace nalab::gpu
