#include "report/modules.h"

#include <array>

namespace nalab::report {

std::span<const Module> modules() {
  static constexpr std::array list{
      Module{"speedup", speedup_tables},
      Module{"simulations", simulation_tables},
  };
  return list;
}

}  // namespace nalab::report
