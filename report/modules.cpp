#include "report/modules.h"

#include <array>

namespace nalab::report {

std::span<const Module> modules() {
  static constexpr std::array list{
      Module{"faster_na", faster_na_sections},
      Module{"faster_na_models", faster_na_model_sections},
      Module{"generalized_na", generalized_na_sections},
      Module{"end_to_end", end_to_end_sections},
      Module{"natten_profiler", profiler_sections},
      Module{"cosmos_predict2", cosmos_predict2_sections},
      Module{"speedup", speedup_sections},
      Module{"models", model_sections},
      Module{"simulations", simulation_sections},
  };
  return list;
}

}  // namespace nalab::report
