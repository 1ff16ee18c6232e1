// Shares of a plan, for machines that work on it side by side.
#pragma once

#include <string>

#include "experiments/plan/plan.h"
#include "store/schema.h"

namespace nalab::plan {

/// "2/3": the second of three shards, without filter and rows. Throws Error unless the text is of this form and
/// 1 <= index <= count <= 100000.
store::Shard parse_shard(const std::string& text);

/// Reduces a plan to one shard. Its groups stay whole, so that rows over the same tensors are timed side by
/// side; simulations, which take no time, all fall to the first shard. The shards of a plan are disjoint, together all
/// of it, and cost about the same: each group in turn, the costliest first, goes to the shard that has least to do. The
/// cost depends on the configuration alone, never on the machine or on measurements, so that every machine gets the
/// same shards. A shard may be empty. A baseline that several groups share is run once, in one shard: the speedups of
/// one shard may lack it, those of the merged file have it.
void take_shard(RunPlan& plan, const store::Shard& shard);

}  // namespace nalab::plan
