// What calls of the library share: threads, and memory that is kept between calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "parallel.h"

namespace nalab {

/// Worker threads and workspaces, kept between calls. Several host threads may use one context at once: their calls
/// share its workers, and each gets a workspace of its own. Other thread pools of the process are left alone.
class Context {
 public:
  /// threads: the calling thread included; 0: NALAB_THREADS if set, else all that the hardware has.
  /// Throws Error if threads is negative or above 1024, NALAB_THREADS is not a number from 1 to 1024, or the system
  /// refuses to start so many.
  /// team: another library's threads, to use in place of threads of its own (core/parallel.h).
  explicit Context(int threads = 0, Team team = nullptr);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  int threads() const;
  Workers& workers();

  /// A workspace for one call; it goes back to the context when it is destroyed.
  class Workspace {
   public:
    Workspace(Context& context, int64_t bytes);
    ~Workspace();
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    /// 64-byte aligned, uninitialised.
    std::span<std::byte> bytes() const;

   private:
    friend class Context;
    struct Memory;
    Context& context_;
    std::unique_ptr<Memory> memory_;
    int64_t bytes_;
  };

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace nalab
