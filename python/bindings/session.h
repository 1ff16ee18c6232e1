// What calls from Python share: threads, workspaces and plans, kept between calls and safe after a fork.
#pragma once

#include <memory>

#include "core/attention.h"

namespace nalab::python {

/// The context of a number of threads; 0: NALAB_THREADS as it is now, else the hardware's. It lives as long as the
/// process; a forked process makes its own.
Context& context(int requested);

/// make_plan, or the plan that an equal request got before. variant: empty for the library's choice.
std::shared_ptr<const Plan> plan_for(const Problem& problem, Pass pass, std::string_view variant, bool tokens_in_a_row);

}  // namespace nalab::python
