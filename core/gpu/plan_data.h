// What a GPU kernel reads of a plan: plain structs that are copied to the device as they are, and the order in which a
// kernel walks them. core/gpu/plan.h makes them; core/gpu/plan.cpp says why they are as they are.
//
// A thread block (CTA) computes query tiles of 128 queries, each for one head of one batch entry: two warpgroups of 64
// queries each, the halves of the tile along its split axis. Keys come in KV tiles of n = k1 k2 k3 keys, boxes that
// begin where the first window of the query tile begins (dynamic KV tiles). The axis that is split is also the one
// that is walked innermost, so the two warpgroups need the same tiles but for the ends of each row of tiles:
//
//   tile = query_tiles[i]; group = groups[tile.group]; a[x] = axis_tiles[tile.axis_tile[x]] for each axis x
//   for t[loop[0]] in [0, a[loop[0]].kv_tiles)
//     for t[loop[1]] in [0, a[loop[1]].kv_tiles)
//       for t[loop[2]] in [0, a[loop[2]].kv_tiles)       -- loop[2] is the split axis
//         the box of keys with its first position at a[x].kv_begin + t[x] * kv[x] on each axis x
//         warpgroup w visits it if a[x].any[w] contains t[x] on every axis x; only on loop[2] does that say anything
//         it is full for w if a[x].full[w] contains t[x] on every axis x: then no pair of it is masked
//   then extra_tiles tiles of n extra tokens from token n * t on, which every active warpgroup visits, without mask but
//   for the tokens from extra_tokens on in the last of them.
//
// All positions count along an axis inside one dilation group. The tokens of a box, of queries or keys, are in
// row-major order of their axes. What lies outside of the group (a cut-short tile) reads as zeros and is not stored.
#pragma once

#include <cstdint>

namespace nalab::gpu {

inline constexpr int kAxisCount = 3;  ///< layouts of one and two axes are embedded by leading axes of one token
inline constexpr int kWarpgroups = 2;
inline constexpr int kWarpgroupQueries = 64;
inline constexpr int kTileQueries = kWarpgroups * kWarpgroupQueries;

/// The keys that a KV tile may have: n columns of a score tile, a multiple of 16 for the product with the values.
inline constexpr int kKeyCounts[] = {112, 128, 144, 160, 176};
/// Rows of the bias of a one-hot mask: the depth of one bf16 tensor-core step.
inline constexpr int kMaskRows = 16;
/// Of them, those that the inner axis has; the others belong to the two outer axes.
inline constexpr int kInnerMaskRows = 8;
/// Outer biases in shared memory: that of the row of tiles at hand and that of the next. Extra tokens take zeros.
inline constexpr int kOuterBiases = 2;
/// Kept for barriers, items, alignment and what else is small.
inline constexpr int kBarrierBytes = 2048;
/// The bias of a masked pair, added to the unscaled score before anything else.
inline constexpr float kMasked = -1e30f;

/// Half-open range of positions, tiles or coordinates.
struct Span {
  int32_t begin;
  int32_t end;
};

/// How the masked pairs of a tile that is not full are hidden.
enum class MaskMode : int32_t {
  none,        ///< every visited tile is full
  one_hot,     ///< scores += one_hot(query) x bias(key), a tensor-core product of depth 16: see MaskRow
  row_ranges,  ///< the query tile and the KV tile have one coordinate on all axes but the inner one: a query sees the
               ///< columns [begin, end) of its KeyRange; compared element by element, in tiles that are not full
};

/// The most keys that a KV tile may have, by the padded channels and the mask: more leave too few registers.
constexpr int most_keys(int64_t padded_dim, MaskMode mask) {
  return (padded_dim > 64 ? 160 : 176) - (mask == MaskMode::one_hot ? 16 : 0);
}

/// A row of the bias: it stands for the coordinates of a warpgroup's queries that it names, one per axis of the layout,
/// -1 where it names none. Its bias for a key is the sum, over the axes it names, of 0 if a query of that coordinate
/// attends to the key's position on that axis, else kMasked. A query has a 1 in the rows whose every named coordinate
/// is its own, and 0 in the others; so its products add up to 0 exactly for the keys that it attends to. An unused row
/// names no axis: its bias is 0.
///
/// Rows 0 to 7 name the inner axis alone: their bias differs from one inner tile to the next, and between the
/// warpgroups. Rows 8 to 15 name outer axes alone: their bias is that of the row of tiles, the same for both.
struct MaskRow {
  int8_t coordinate[kAxisCount];
};

/// The shape of the tiles: chosen once for a problem.
struct TileShape {
  int32_t query[kAxisCount];      ///< extents of the tile of both warpgroups; their product is 128
  int32_t warpgroup[kAxisCount];  ///< extents of a warpgroup's half; their product is 64
  int32_t kv[kAxisCount];         ///< extents of a KV tile; their product is `keys`
  int32_t loop[kAxisCount];       ///< the axes from the outermost to the innermost; loop[2] is the split axis
  int32_t keys;                   ///< n, one of kKeyCounts
  int32_t stages;                 ///< KV tiles in shared memory at a time, of keys and of values each; at least 2
  int32_t ping_pong;              ///< 1: the warpgroups take turns at the tensor cores
  int32_t bias_slots;             ///< one_hot: inner biases in shared memory for a warpgroup: see inner_slot(); else 0
  MaskMode mask;
  MaskRow rows[kMaskRows];  ///< of a one-hot mask
};

/// The numbers of a plan that are the same for every query tile.
struct PlanHeader {
  TileShape shape;
  int32_t query_tiles;   ///< of one head of one batch entry
  int32_t extra_tokens;  ///< that every query attends to
  int32_t extra_tiles;   ///< ceil(extra_tokens / keys)
};

/// A dilation group: an independent problem of its own. Its token at position p has coordinate p * dilation + first on
/// each axis. It has the tensor map of the same index: base at its first token, token strides times the dilation,
/// extents `length`; reads outside of them give zeros, writes outside of them are dropped.
struct Group {
  int32_t first[kAxisCount];   ///< coordinates of its first token
  int32_t length[kAxisCount];  ///< positions
};

/// A query tile along one axis of the groups of one length. What several groups share is there once.
struct AxisTile {
  int32_t origin;          ///< first query
  int32_t kv_begin;        ///< first key of the first KV tile: that of the first window
  int32_t kv_tiles;        ///< KV tiles from there on
  int32_t key_ranges;      ///< index of the KeyRange of the first query; those of the tile's others follow it
  Span any[kWarpgroups];   ///< KV tiles that a warpgroup visits; empty if it has no query
  Span full[kWarpgroups];  ///< those of them in which each of its queries attends to each key; inside `any`
};

/// The positions [begin, end) of the keys that a query attends to along one axis. Coordinates of a tile beyond the end
/// of the group have the range of the last query, so that no row of scores is masked as a whole.
using KeyRange = Span;

/// A query tile.
struct QueryTile {
  int32_t axis_tile[kAxisCount];  ///< indices of its AxisTile on each axis
  int32_t group;                  ///< index of its Group, and of the group's tensor maps
};

/// Where the inner bias (rows 0 to 7) of tile t on the inner axis stands among the bias slots of a warpgroup: slot 0
/// holds zeros, for tiles that are full along that axis; the others follow in their order. Requires any to contain t.
constexpr int inner_slot(Span any, Span full, int t) {
  if (full.begin <= t && t < full.end) return 0;
  return 1 + t - any.begin - (t >= full.end ? full.end - full.begin : 0);
}

}  // namespace nalab::gpu
