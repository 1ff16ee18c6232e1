#include "core/context.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/tensor/buffer.h"

namespace nalab {

struct Context::Workspace::Memory {
  AlignedBuffer<std::byte> buffer;
};

struct Context::Shared {
  Shared(int threads, Team team) : workers(threads, std::move(team)) {}

  Workers workers;
  std::mutex guard;
  std::vector<std::unique_ptr<Workspace::Memory>> idle;  ///< at most one for each call that ever ran at the same time
};

namespace {

int checked_threads(int threads) {
  if (threads < 0 || threads > kMaxThreads) {
    throw Error("threads " + std::to_string(threads) + " must be from 0 to " + std::to_string(kMaxThreads));
  }
  return choose_threads(threads);
}

}  // namespace

Context::Context(int threads, Team team)
    : shared_(std::make_unique<Shared>(checked_threads(threads), std::move(team))) {}
Context::~Context() = default;

int Context::threads() const { return shared_->workers.threads(); }
Workers& Context::workers() { return shared_->workers; }

Context::Workspace::Workspace(Context& context, int64_t bytes) : context_(context), bytes_(bytes) {
  {
    const std::lock_guard lock(context_.shared_->guard);
    auto& idle = context_.shared_->idle;
    // The largest one: the others grow only if calls of that size run at the same time.
    const auto largest = std::max_element(
        idle.begin(), idle.end(), [](const auto& a, const auto& b) { return a->buffer.size() < b->buffer.size(); });
    if (largest != idle.end()) {
      memory_ = std::move(*largest);
      idle.erase(largest);
    }
  }
  if (memory_ == nullptr) memory_ = std::make_unique<Memory>();
  if (memory_->buffer.size() < bytes) {
    memory_->buffer = {};  // before the larger one is asked for
    memory_->buffer = AlignedBuffer<std::byte>(bytes);
  }
}

Context::Workspace::~Workspace() {
  const std::lock_guard lock(context_.shared_->guard);
  context_.shared_->idle.push_back(std::move(memory_));
}

std::span<std::byte> Context::Workspace::bytes() const {
  return {memory_->buffer.data(), static_cast<std::size_t>(bytes_)};
}

}  // namespace nalab
