#include "models/onednn_errors.h"

#include <cstddef>

#include "core/simd/isa.h"

namespace nalab::models {

void limit_instructions() {
  static const bool once = [] {
    using dnnl::cpu_isa;
    constexpr cpu_isa limits[] = {cpu_isa::sse41, cpu_isa::avx2, cpu_isa::avx512_core, cpu_isa::avx512_core_bf16,
                                  cpu_isa::all};
    return dnnl::set_max_cpu_isa(limits[static_cast<std::size_t>(choose_isa())]) == dnnl::status::success;
  }();
  static_cast<void>(once);
}

}  // namespace nalab::models
