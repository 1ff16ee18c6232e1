// The matrix unit of Intel CPUs (AMX): whether this process may use it.
#pragma once

namespace nalab {

/// Whether the CPU multiplies tiles of bf16 (AMX-TILE, AMX-BF16) and the operating system saves them. The first call
/// asks Linux for the permission that a process needs, for all its threads; a refusal means false. False on other
/// systems and architectures.
bool may_use_amx();

}  // namespace nalab
