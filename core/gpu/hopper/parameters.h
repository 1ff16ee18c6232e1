// What the forward kernel is called with; core/gpu/hopper/forward.cpp fills it on the host.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "core/gpu/plan_data.h"

namespace nalab::gpu::hopper {

inline constexpr int kThreads = 384;      ///< of a thread block: three warpgroups
inline constexpr int kConsumerWarps = 8;  ///< those of two of them compute, 16 queries each

/// The tensor maps of a dilation group of one batch entry. Dimensions: channels of a head, heads, axes 3, 2, 1 of the
/// layout; the box of q and out is a warpgroup's, that of k and v a KV tile, each of 64 channels.
struct GroupMaps {
  CUtensorMap q, k, v, out;
};
/// Those of the extra tokens of one batch entry; the tokens are axis 3.
struct ExtraMaps {
  CUtensorMap k, v;
};

/// A tensor of results over tokens; strides in elements.
template <class T>
struct TokenResults {
  T* data;
  int64_t batch, layout[kAxisCount], heads;
};

struct ForwardParameters {
  PlanHeader plan;
  const Group* groups;
  const AxisTile* axis_tiles;
  const KeyRange* key_ranges;
  const QueryTile* query_tiles;
  const GroupMaps* maps;        ///< [batch][groups]
  const ExtraMaps* extra_maps;  ///< [batch]; null without extra tokens
  int32_t group_count;
  int32_t heads;
  int32_t heads_kv;
  int32_t dilation[kAxisCount];
  float scale_log2;   ///< |scale| log2(e), above 0
  float sign;         ///< of the scale, that the queries are multiplied by: 1, -1 or 0
  float largest_lse;  ///< see largest_lse() in core/gpu/plan.h
  TokenResults<float> lse;
  /// Sixteen queries each with a result that is not finite, or an lse that is not trusted, in no certain order:
  /// ((batch * heads + head) * query_tiles + tile) * 8 + warp. What they do not attend to may have done it: exact.cu
  /// computes them again.
  int64_t* suspects;
  unsigned int* suspect_count;
};

}  // namespace nalab::gpu::hopper
