// The rows of the registry, one per file or subfolder of this folder.
#pragma once

#include "core/kernels/registry.h"

namespace nalab {

namespace reference {
Variant variant();
}
namespace dense {
Variant variant();
}
namespace banded {
Variant variant();
}
namespace naive {
Variant variant();
}
namespace gemm {
Variant variant();
}
namespace fused {
Variant variant();
}
namespace hopper {
Variant variant();
Variant dense_variant();
}  // namespace hopper

}  // namespace nalab
