#include "report/modules.h"

#include <array>

namespace nalab::report {

std::span<const Module> modules() {
  static constexpr std::array list{
      Module{"speedup", speedup_sections},
      Module{"simulations", simulation_sections},
  };
  return list;
}

}  // namespace nalab::report
