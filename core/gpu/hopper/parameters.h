// What the forward kernel is called with; core/gpu/hopper/forward.cpp fills it on the host.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "core/gpu/plan_data.h"

namespace nalab::gpu::hopper {

inline constexpr int kThreads = 384;      ///< of a thread block: three warpgroups
inline constexpr int kConsumerWarps = 8;  ///< those of two of them compute, 16 queries each

/// The tensor maps of a dilation group of one batch entry. Dimensions: channels of a head, heads, axes 3, 2, 1 of the
/// layout; the box of q is a warpgroup's, that of k and v a KV tile, each of 64 channels.
struct GroupMaps {
  CUtensorMap q, k, v;
};
/// Those of the extra tokens of one batch entry; the tokens are axis 3.
struct ExtraMaps {
  CUtensorMap k, v;
};

/// A tensor over tokens on the device; strides in elements.
struct DeviceTensor {
  void* data;
  int64_t batch, layout[kAxisCount], heads;
};

/// What a call counts, from 0.
struct Counters {
  unsigned int taken;  ///< items that thread blocks have taken after their first ones
  unsigned int suspects;
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
  int32_t batch;
  int32_t heads;
  int32_t heads_of_kv;  ///< that share a kv head
  int32_t head_dim_v;
  int32_t dilation[kAxisCount];
  float scale_log2;   ///< |scale| log2(e), above 0
  float sign;         ///< of the scale, that the queries are multiplied by: 1, -1 or 0
  float largest_lse;  ///< see largest_lse() in core/gpu/plan.h
  DeviceTensor out, lse;
  /// Sixteen queries each with a result that is not finite, or an lse that is not trusted, in no certain order:
  /// ((batch * heads + head) * query_tiles + tile) * 8 + warp. What they do not attend to may have done it: exact.cu
  /// computes them again.
  int64_t* suspects;
  Counters* counters;
};

}  // namespace nalab::gpu::hopper
