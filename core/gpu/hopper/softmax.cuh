// Softmax by parts, in registers: scores of a tile to weights, with the maximum and the sum of each row so far. A
// thread has two rows of the 64 (wgmma.cuh): values 4 j, 4 j + 1 belong to the first, 4 j + 2, 4 j + 3 to the second.
#pragma once

#include "core/gpu/hopper/ptx.cuh"
#include "core/gpu/plan_data.h"

namespace nalab::gpu::hopper {

/// Over the four threads that share a row.
__device__ inline float max_of_row(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ inline float sum_of_row(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

/// Masks the columns outside [begin, end) of a row's own range.
template <int kKeys>
__device__ void mask_columns(float (&s)[kKeys / 2], const KeyRange (&columns)[2]) {
  const int first = 2 * (threadIdx.x % 4);
#pragma unroll
  for (int i = 0; i < kKeys / 2; ++i) {
    const int column = 8 * (i / 4) + first + i % 2;
    const KeyRange range = columns[i / 2 % 2];
    if (column < range.begin || column >= range.end) s[i] = kMasked;
  }
}

/// Weights are 2^(scale score - reference), a row's reference being about its maximum.
template <class Element>
struct Softmax {
  /// Where it begins: far below scores, and far above masked ones, which therefore never become the reference. If one
  /// did, the rounding of its product with the scale, huge as it is, would be left as a difference, and its power of 2
  /// would be infinite. A row whose scores are all lower has a sum of 0, and is computed again by exact.cu.
  static constexpr float kLowest = -1e8f;
  /// The reference follows the row's maximum only where it has grown by more than this: weights stay below 2^8, which
  /// f16 holds, and sums are seldom rescaled.
  static constexpr float kGrowth = 8;
  /// bf16 holds weights up to 2^127. So once all rows have a reference, no maximum is looked for: a row whose sum
  /// exceeds 2^64 is scaled down by that. If it grows faster than from tile to tile, its results are not finite, and
  /// exact.cu computes them again.
  static constexpr bool kWatchesSums = std::is_same_v<Element, __nv_bfloat16>;
  static constexpr float kShift = 64;
  static constexpr float kMostSum = 0x1p64f;
  /// Up to here a reference plus kShift is exact. Greater ones follow maxima all the way.
  static constexpr float kMostReference = 0x1p29f;

  float scale;  ///< times log2(e)
  float reference[2] = {kLowest, kLowest};
  float sum[4] = {0, 0, 0, 0};  ///< this thread's part: of the even and of the odd columns of either row
  bool settled = false;         ///< whether all rows of the warp have a reference that can be shifted

  /// Multiplies what has been summed up of row r.
  template <int kSize>
  __device__ void rescale(int r, float factor, float (&out)[kSize]) {
    sum[2 * r] *= factor;
    sum[2 * r + 1] *= factor;
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      if (i / 2 % 2 == r) out[i] *= factor;
    }
  }

  __device__ static bool is_between(float x) { return kLowest < x && x < kMostReference; }

  template <int kSize, int kOut>
  __device__ void follow_maxima(const float (&s)[kSize], float (&out)[kOut]) {
    float top[4] = {s[0], s[1], s[2], s[3]};
#pragma unroll
    for (int i = 4; i < kSize; ++i) top[i % 4] = fmaxf(top[i % 4], s[i]);
    top[0] = fmaxf(top[0], top[1]) * scale;
    top[2] = fmaxf(top[2], top[3]) * scale;
    // The four threads of a row need its maximum only where one of them has seen it grow.
    if (!__any_sync(~0u, top[0] > reference[0] + kGrowth || top[2] > reference[1] + kGrowth)) return;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float row_top = max_of_row(top[2 * r]);
      const bool grown = row_top > reference[r] + kGrowth;
      rescale(r, grown ? exp2_approx(reference[r] - row_top) : 1.0f, out);
      if (grown) reference[r] = row_top;
    }
    settled = __all_sync(~0u, is_between(reference[0]) && is_between(reference[1]));
  }

  template <int kOut>
  __device__ void watch_sums(float (&out)[kOut]) {
    if (!__any_sync(~0u, sum[0] + sum[1] > kMostSum || sum[2] + sum[3] > kMostSum)) return;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const bool grown = max_of_row(sum[2 * r] + sum[2 * r + 1]) > kMostSum;
      rescale(r, grown ? 1 / kMostSum : 1.0f, out);
      if (grown) reference[r] += kShift;
    }
  }

  /// Scores of a tile to packed weights, A operands of the product with the values; rescales what has been summed up.
  template <int kKeys, int kDim>
  __device__ void step(const float (&s)[kKeys / 2], uint32_t (&weights)[kKeys / 4], float (&out)[kDim / 2]) {
    if (kWatchesSums && settled) {
      watch_sums(out);
    } else {
      follow_maxima(s, out);
    }
#pragma unroll
    for (int i = 0; i < kKeys / 2; i += 2) {
      const int r = i / 2 % 2;
      const float low = exp2_approx(fmaf(s[i], scale, -reference[r]));
      const float high = exp2_approx(fmaf(s[i + 1], scale, -reference[r]));
      sum[i % 4] += low;
      sum[i % 4 + 1] += high;
      weights[i / 2] = pack<Element>(low, high);
    }
  }
};

}  // namespace nalab::gpu::hopper
