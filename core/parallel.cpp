#include "core/parallel.h"

#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.h"

namespace nalab {

int hardware_threads() { return oneapi::tbb::this_task_arena::max_concurrency(); }

int choose_threads(int requested) {
  if (requested > 0) return requested;
  const char* text = std::getenv("NALAB_THREADS");
  if (text == nullptr || *text == '\0') return hardware_threads();
  const std::string_view view = text;
  int threads = 0;
  const auto [end, code] = std::from_chars(view.data(), view.data() + view.size(), threads);
  if (code != std::errc{} || end != view.data() + view.size() || threads < 1 || threads > 1024) {
    throw Error("NALAB_THREADS '" + std::string(view) + "' must be a number from 1 to 1024");
  }
  return threads;
}

}  // namespace nalab
