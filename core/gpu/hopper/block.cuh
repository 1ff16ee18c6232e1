// What a thread block of the forward kernel is made of: its warps, its shared memory, its place in the plan.
#pragma once

#include <cstddef>

#include "core/gpu/hopper/parameters.h"
#include "core/gpu/hopper/ptx.cuh"

namespace nalab::gpu::hopper {

// Warpgroup 0 feeds the other two, which compute: a warp loads keys, one loads queries and values, two prepare outer
// biases.
inline constexpr int kBiasThreads = 64;
// Registers of a thread. Each has 168 at the start; what the feeders give back must be enough for the others, who wait
// for it: 40 + 2 x 232 = 3 x 168.
inline constexpr int kFeederRegisters = 40;
inline constexpr int kConsumerRegisters = 232;
static_assert(kFeederRegisters + 2 * kConsumerRegisters <= 3 * (65536 / kThreads / 8 * 8));
inline constexpr int kMaxStages = 8;
inline constexpr int kItems = 4;  ///< of a thread block that are known at a time

// Named barriers; 0 is that of __syncthreads. Each is followed by that of the second warpgroup.
inline constexpr int kWarpgroupBarrier = 1;
inline constexpr int kTurnBarrier = 3;
inline constexpr int kBiasBarrier = 5;

/// A place in a ring of stages, and the parity of the phase that fills it.
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;

  __device__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// A query tile of one head of one batch entry; the tile is -1 after the last one.
struct Item {
  int32_t tile, head, batch;
};

/// Shared memory of fixed size: barriers, and the ring of items that item_full and item_empty belong to.
struct Control {
  uint64_t queries_full[kWarpgroups], queries_empty[kWarpgroups];
  uint64_t keys_full[kMaxStages], keys_empty[kMaxStages];
  uint64_t values_full[kMaxStages], values_empty[kMaxStages];
  uint64_t row_full[kOuterBiases], row_empty[kOuterBiases];
  uint64_t item_full[kItems], item_empty[kItems];
  Item items[kItems];
};
/// Where the barriers are; those of a kind are 8 bytes apart.
struct Barriers {
  uint32_t base;

  __device__ uint32_t queries_full(int warpgroup = 0) const { return at(offsetof(Control, queries_full), warpgroup); }
  __device__ uint32_t queries_empty(int warpgroup = 0) const { return at(offsetof(Control, queries_empty), warpgroup); }
  __device__ uint32_t keys_full(int stage = 0) const { return at(offsetof(Control, keys_full), stage); }
  __device__ uint32_t keys_empty(int stage = 0) const { return at(offsetof(Control, keys_empty), stage); }
  __device__ uint32_t values_full(int stage = 0) const { return at(offsetof(Control, values_full), stage); }
  __device__ uint32_t values_empty(int stage = 0) const { return at(offsetof(Control, values_empty), stage); }
  __device__ uint32_t row_full(int slot = 0) const { return at(offsetof(Control, row_full), slot); }
  __device__ uint32_t row_empty(int slot = 0) const { return at(offsetof(Control, row_empty), slot); }
  __device__ uint32_t item_full(int slot = 0) const { return at(offsetof(Control, item_full), slot); }
  __device__ uint32_t item_empty(int slot = 0) const { return at(offsetof(Control, item_empty), slot); }

 private:
  __device__ uint32_t at(std::size_t offset, int i) const { return base + static_cast<uint32_t>(offset) + 8 * i; }
};
/// Coordinates on the two outer axes that the keys of a tile have: at most as a row of them, and one.
inline constexpr int kMostCoordinates = most_keys(64, MaskMode::one_hot) + 1;
/// What the warps that prepare outer biases share.
struct OuterMask {
  KeyRange ranges[2][kMaskRows - kInnerMaskRows];  ///< the keys that each row of the bias lets through on either axis
  uint8_t bits[kOuterBiases][kMostCoordinates];    ///< of each coordinate, which rows mask it
};

/// The other shared memory. kDim: padded channels; kKeys: of a KV tile. `base` is aligned to 1024 bytes.
template <int kDim, int kKeys>
struct SharedLayout {
  static constexpr int kTileKeys = kKeys;
  static constexpr uint32_t kBlocks = kDim / 64;                         ///< blocks of 64 channels
  static constexpr uint32_t kQueryBlockBytes = kWarpgroupQueries * 128;  ///< of one warpgroup
  static constexpr uint32_t kQueryBytes = kBlocks * kQueryBlockBytes;
  static constexpr uint32_t kKeyBlockBytes = kKeys * 128;
  static constexpr uint32_t kStageBytes = kBlocks * kKeyBlockBytes;
  static constexpr uint32_t kBiasBytes = kKeys * 16;  ///< 8 rows of the bias

  uint32_t base;
  int stages;
  int bias_slots;

  __device__ uint32_t queries(int warpgroup) const { return base + warpgroup * kQueryBytes; }
  __device__ uint32_t keys(int stage) const { return queries(kWarpgroups) + stage * kStageBytes; }
  __device__ uint32_t values(int stage) const { return keys(stages) + stage * kStageBytes; }
  __device__ uint32_t inner_bias(int warpgroup, int slot) const {
    return values(stages) + (warpgroup * bias_slots + slot) * kBiasBytes;
  }
  __device__ uint32_t row_bias(int slot) const { return inner_bias(kWarpgroups, 0) + slot * kBiasBytes; }

  static constexpr int64_t kAlignment = 1024;
  static_assert(sizeof(Control) + sizeof(OuterMask) + kAlignment <= kBarrierBytes);

  static constexpr int64_t bytes(int stages, int bias_slots) {
    return kAlignment + kWarpgroups * kQueryBytes + 2 * stages * kStageBytes +
           (bias_slots > 0 ? kWarpgroups * bias_slots + kOuterBiases : 0) * kBiasBytes;
  }
};

/// What a thread block computes: an item, with what its indices stand for. That is read where it is needed, since
/// registers are few.
struct Work {
  const ForwardParameters& p;
  const Item& item;

  __device__ const TileShape& shape() const { return p.plan.shape; }
  __device__ const QueryTile& tile() const { return p.query_tiles[item.tile]; }
  __device__ const AxisTile& axis(int x) const { return p.axis_tiles[tile().axis_tile[x]]; }
  __device__ const Group& group() const { return p.groups[tile().group]; }
  __device__ int head_kv() const { return item.head / p.heads_of_kv; }
  __device__ const GroupMaps& maps() const {
    return p.maps[static_cast<int64_t>(item.batch) * p.group_count + tile().group];
  }
  /// KV tiles on the axis that is walked at this depth, 2 being the innermost.
  __device__ int tiles(int depth) const { return axis(shape().loop[depth]).kv_tiles; }
  /// First query of a warpgroup's half on an axis.
  __device__ int query_begin(int x, int warpgroup) const {
    return axis(x).origin + (x == shape().loop[2] ? warpgroup * shape().warpgroup[x] : 0);
  }
};

}  // namespace nalab::gpu::hopper
