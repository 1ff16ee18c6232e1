#include "core/kernels/variants.h"
namespace nalab::naive {
Variant variant() {
  return {.name = "naive", .paper_term = "", .summary = "",
      .supports = [](const Problem&, Pass) -> std::optional<std::string> { return "not yet"; },
      .workspace_bytes = [](const Problem&, Pass, int) -> int64_t { return 0; },
      .executed_flops = [](const Problem& problem, Pass pass) { return problem.useful_flops(pass); },
      .forward = nullptr, .backward = nullptr};
}
}
