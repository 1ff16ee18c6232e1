// The memory of a bias in the unfused variants: a copy of the tables, and the sums of their gradient.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/geometry/axis.h"
#include "core/geometry/bias.h"
#include "core/problem.h"
#include "core/tensor/workspace.h"

namespace nalab::unfused {

/// The tables of all heads, contiguous, each followed by zeros: runs of it may be read by whole vectors.
struct BiasTables {
  float* data = nullptr;  ///< [heads][step]; null without a bias
  int64_t step = 0;

  BiasTables() = default;
  BiasTables(const Problem& p, bool there, WorkspaceCutter& cutter) {
    if (!there) return;
    step = p.bias_entries() + kAlignment / sizeof(float);
    data = cutter.take<float>(p.heads * step);
  }

  /// Null without a bias.
  const float* of(int64_t head) const { return data == nullptr ? nullptr : data + head * step; }
};

/// How the gradient of the tables is summed: the tokens of each head of each batch entry in slices, each summed by
/// itself and then added in their order. Their number follows from the problem alone, so that the bits of a sum do not
/// depend on the thread count.
class BiasSlices {
 public:
  /// Terms of an entry that are summed in float before the sum joins one in double: over hundreds of thousands of
  /// queries the rounding of one float sum would show.
  static constexpr int64_t kTerms = 4096;

  /// What a task sums over.
  struct Task {
    int64_t batch = 0, head = 0;
    geometry::Range tokens = {};
    float* partial = nullptr;  ///< [entries]
    double* sums = nullptr;    ///< [entries]
  };

  BiasSlices(const Problem& p, bool there, WorkspaceCutter& cutter) : heads_(p.heads), tokens_(p.tokens()) {
    if (!there) return;
    // Enough tasks to keep 64 threads busy, but slices that are worth a task.
    constexpr int64_t kTasks = 64, kLeastTokens = 64;
    slices_ = std::clamp<int64_t>(kTasks / (p.batch * heads_), 1, geometry::ceil_div(tokens_, kLeastTokens));
    tasks_ = p.batch * heads_ * slices_;
    entries_ = p.bias_entries();
    partial_ = cutter.take<float>(tasks_ * entries_);
    sums_ = cutter.take<double>(tasks_ * entries_);
  }

  int64_t entries() const { return entries_; }
  int64_t tasks() const { return tasks_; }
  /// Tasks of one head follow each other in steps of heads, beginning with the head's number.
  Task at(int64_t number) const {
    const int64_t slice = number / heads_ % slices_;
    const int64_t of_slice = geometry::ceil_div(tokens_, slices_);
    return {.batch = number / heads_ / slices_,
            .head = number % heads_,
            .tokens = {std::min(slice * of_slice, tokens_), std::min((slice + 1) * of_slice, tokens_)},
            .partial = partial_ + number * entries_,
            .sums = sums_ + number * entries_};
  }

 private:
  int64_t heads_, tokens_;
  int64_t slices_ = 0, tasks_ = 0, entries_ = 0;
  float* partial_ = nullptr;
  double* sums_ = nullptr;
};

}  // namespace nalab::unfused
