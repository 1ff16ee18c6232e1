// What the shape of the tiles means along one axis.
#pragma once

#include "core/gpu/axis_tiles.h"
#include "core/gpu/plan_data.h"

namespace nalab::gpu {

/// How tiles of a shape cut axis x of the layout embedded in three axes.
AxisCut axis_cut(const TileShape& shape, int x);

}  // namespace nalab::gpu
