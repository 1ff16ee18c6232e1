// How the sums over all queries for the gradients of the extra tokens are cut into tasks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/geometry/axis.h"
#include "core/problem.h"

namespace nalab::unfused {

/// Slices of the tokens, each summed by itself, then added in their order: their number follows from the problem alone,
/// so that the bits of a sum do not depend on the thread count. Empty without extra tokens.
class ExtraSlices {
 public:
  /// Extra tokens of one task, which share the rows of the queries.
  static constexpr int64_t kBlock = 4;

  /// What a task sums over, and for which extra tokens.
  struct Task {
    int64_t batch = 0, head_kv = 0, slice = 0;
    int64_t first = 0;  ///< the first of kBlock extra tokens; the last block may have fewer
    geometry::Range tokens = {};
  };

  explicit ExtraSlices(const Problem& p)
      : tokens_(p.tokens()),
        batch_(p.batch),
        heads_kv_(p.heads_kv),
        blocks_(geometry::ceil_div(p.extra_tokens, kBlock)) {
    // Enough tasks to keep 64 threads busy, but slices that are worth a task.
    constexpr int64_t kTasks = 64, kLeastTokens = 64;
    const int64_t others = std::max<int64_t>(batch_ * heads_kv_ * blocks_, 1);
    count_ = std::clamp<int64_t>(kTasks / others, 1, geometry::ceil_div(tokens_, kLeastTokens));
    tokens_of_slice_ = geometry::ceil_div(tokens_, count_);
  }

  int64_t count() const { return count_; }
  int64_t tasks() const { return batch_ * heads_kv_ * count_ * blocks_; }
  Task at(int64_t number) const {
    Task task;
    task.first = number % blocks_ * kBlock;
    task.slice = number / blocks_ % count_;
    task.head_kv = number / blocks_ / count_ % heads_kv_;
    task.batch = number / blocks_ / count_ / heads_kv_;
    task.tokens = {std::min(task.slice * tokens_of_slice_, tokens_),
                   std::min((task.slice + 1) * tokens_of_slice_, tokens_)};
    return task;
  }
  /// The row of partial sums of an extra token, blocks padded.
  int64_t row(const Task& task, int64_t extra) const {
    return ((task.batch * heads_kv_ + task.head_kv) * count_ + task.slice) * blocks_ * kBlock + extra;
  }
  /// Floats of all partial sums of rows of `dim`.
  int64_t floats(int64_t dim) const { return tasks() * kBlock * dim; }

 private:
  int64_t tokens_, batch_, heads_kv_, blocks_;
  int64_t count_ = 1, tokens_of_slice_ = 0;
};

}  // namespace nalab::unfused
