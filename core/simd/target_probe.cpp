#include "core/simd/target_probe.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/simd/target_probe.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace nalab::HWY_NAMESPACE {

/// Its target, as every kernel of this target's namespace has it.
std::string_view TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace nalab::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab {

std::string_view compiled_target(Isa isa) { return NALAB_SELECT(isa, TargetName)(); }

}  // namespace nalab
#endif  // HWY_ONCE
