// Tilings of a problem in the order of their expected time: Faster NA (2403.04690) and Generalized NA (2504.16922)
// leave the choice to an autotuner, for which this order is a start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/geometry/tiles.h"
#include "core/machine.h"
#include "core/problem.h"
#include "core/simd/arithmetic.h"
#include "core/tiling.h"

namespace nalab::tuning {

/// At most `most` tilings of a valid problem, the one with the least expected cost first. They depend on the problem
/// and on the caches of the machine, never on the number of threads. The passes differ in what they keep in cache for a
/// query and a key. Larger caches than those of the measurements change nothing, smaller ones get smaller tiles.
std::vector<Tiling> candidates(const Problem& problem, Pass pass, const Arithmetic& arithmetic,
                               geometry::KvTiling kv_tiling, const Machine& machine, std::size_t most);

/// (query lane, key) pairs that the query tiles of one head of one batch entry visit, masked ones and lanes beyond the
/// layout included. A flat tiling counts on a flat problem.
int64_t visited_pairs(const Problem& problem, const Tiling& tiling);

}  // namespace nalab::tuning
