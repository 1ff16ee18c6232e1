#include "models/onednn_errors.h"

#include <cstddef>

namespace nalab::models {

void limit_instructions(Isa isa) {
  static const Isa limit = [isa] {
    using dnnl::cpu_isa;
    constexpr cpu_isa limits[] = {cpu_isa::sse41, cpu_isa::avx2, cpu_isa::avx512_core, cpu_isa::avx512_core_bf16,
                                  cpu_isa::all};
    dnnl::set_max_cpu_isa(limits[static_cast<std::size_t>(isa)]);
    return isa;
  }();
  if (limit == isa) return;
  throw Error("oneDNN is limited to " + std::string(name(limit)) + " by an earlier model of the process");
}

}  // namespace nalab::models
