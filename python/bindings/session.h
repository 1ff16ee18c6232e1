// What calls from Python share: threads, workspaces and plans, kept between calls and safe after a fork.
#pragma once

#include <cstdint>
#include <memory>

#include "core/attention.h"
#include "python/bindings/memory.h"

namespace nalab::python {

/// The context of a number of threads; 0: NALAB_THREADS as it is now, else the hardware's. The latest ones are kept,
/// with their threads and workspaces; others end when their last call does. A forked process makes its own.
std::shared_ptr<Context> context(int requested);

/// Memory of at least so many bytes: what an earlier result of about that size has left, else new memory, whose pages
/// the system would have to clear. No GIL needed.
std::unique_ptr<Memory> take_memory(int64_t bytes);
/// Keeps the pages of a result that is gone for those to come: 64 MiB at most, the latest. No GIL needed.
void give_back(std::unique_ptr<Memory> memory) noexcept;

/// The number of threads that NALAB_THREADS says; 0 if it says none. Throws Error as choose_threads does.
int threads_of_environment();

/// From now on a process that is forked from this one is known to be.
void watch_forks();

/// Later calls run on the threads of an OpenMP runtime, given the address of its GOMP_parallel; with 0 on threads of
/// their own. Forked processes stay with the latter, whatever is asked for: OpenMP would wait for threads that they
/// lack.
void use_openmp(uintptr_t gomp_parallel);

/// make_plan, or the plan that an equal request got before. variant: empty for the library's choice.
std::shared_ptr<const Plan> plan_for(const Problem& problem, Pass pass, std::string_view variant, bool tokens_in_a_row);

}  // namespace nalab::python
