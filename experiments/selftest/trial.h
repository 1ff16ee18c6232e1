// One call that the self test makes: what is computed, of what values, how, and where its tensors lie. As text it is
// the argument of nalab selftest --problem.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/problem.h"
#include "core/simd/isa.h"

namespace nalab::selftest {

/// What the tensors that a call reads are filled with.
enum class Values : uint8_t {
  normal,      ///< numbers of mean 0 and variance 1
  equal,       ///< one number throughout a tensor: all scores of a query are equal
  tiny,        ///< numbers around the smallest of the type, subnormal ones among them
  non_finite,  ///< as normal, but for a NaN or an infinity here and there
};

/// How a tensor lies in memory.
struct Placement {
  /// Extents that leave a gap of one in memory, as bits: batch 1, X 2, 4 and 8, heads 16; 32 is a gap between rows.
  unsigned gaps = 0;
  /// The order of those extents in memory: number of a permutation in lexicographic order, 0 is row-major.
  int order = 0;

  bool operator==(const Placement&) const = default;
};

inline constexpr unsigned kAllGaps = 63;
inline constexpr int kOrders = 120;

struct Trial {
  Problem problem;
  Pass pass = Pass::forward;  ///< backward: after a forward call of the same variant
  std::string variant;
  Isa isa = Isa::baseline;
  std::string arithmetic;       ///< empty: by preference
  std::string tiling;           ///< of `pass`; empty: the best
  std::vector<int> threads{1};  ///< the call is made once with each; all must give the same bits
  bool results_are_f32 = true;  ///< else of the problem's type
  bool weights_are_f32 = true;  ///< attn and its gradient; else of the problem's type
  Values values = Values::normal;
  int64_t seed = 0;                             ///< of the values
  std::map<std::string, Placement> placements;  ///< by tensor; contiguous where there is none

  bool operator==(const Trial&) const = default;

  Placement placement(std::string_view tensor) const;
};

/// "layout=5x7 window=3x3 head_dim=8 pass=backward variant=fused isa=avx2"; what is as by default is left out, but for
/// the layout, the variant and the instruction set.
std::string to_text(const Trial& trial);
/// Throws Error that names the field and the rule, also for an invalid problem.
Trial parse_trial(std::string_view text);

}  // namespace nalab::selftest
