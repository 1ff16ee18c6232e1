// What will run: a problem, the variant that computes it and how, chosen once, outside of the call.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "machine.h"
#include "problem.h"
#include "simd/isa.h"
#include "tiling.h"

namespace nalab {

namespace gpu {
struct TilePlan;
}

struct Arithmetic;
struct PlanOptions;
struct Variant;

/// Everything that is chosen, before its cost is known.
struct PlanChoice {
  const Variant* variant = nullptr;
  Problem problem;
  Pass pass = Pass::forward;
  Isa isa = Isa::baseline;  ///< limit on the instructions used
  const Arithmetic* arithmetic = nullptr;
  std::optional<Tiling> tiling;  ///< unset if the variant has no tiles

  bool operator==(const PlanChoice&) const = default;
};

/// What a plan costs.
struct PlanCost {
  int64_t shared_bytes = 0;      ///< workspace that all workers share
  int64_t bytes_per_worker = 0;  ///< private workspace of each
  int64_t executed_flops = 0;    ///< multiply-adds times 2, masked ones included; the same for every thread count
  /// What a variant on a GPU walks: its cost is known only once it has been made. Follows from the choices. Null for
  /// other variants.
  std::shared_ptr<const gpu::TilePlan> gpu_tiles = {};

  bool operator==(const PlanCost& other) const {
    return shared_bytes == other.shared_bytes && bytes_per_worker == other.bytes_per_worker &&
           executed_flops == other.executed_flops;
  }
};

/// A plan is immutable, and two plans of the same choices are equal. Its tiling, arithmetic and instruction set decide
/// every bit of the result; the number of threads is not part of it.
class Plan {
 public:
  const Variant& variant() const { return *choice_.variant; }
  std::string_view variant_name() const;
  const Problem& problem() const { return choice_.problem; }
  Pass pass() const { return choice_.pass; }
  Isa isa() const { return choice_.isa; }
  const Arithmetic& arithmetic() const { return *choice_.arithmetic; }
  std::string_view arithmetic_name() const;
  /// Requires a variant with tiles.
  const Tiling& tiling() const { return *choice_.tiling; }
  bool has_tiling() const { return choice_.tiling.has_value(); }
  /// Requires a variant on a GPU.
  const gpu::TilePlan& gpu_tiles() const { return *cost_.gpu_tiles; }
  /// The text of the tiling or, of a variant on a GPU, of the shape of its tiles; "" without tiles.
  std::string tiling_text() const;

  int64_t workspace_bytes(int threads) const { return cost_.shared_bytes + threads * cost_.bytes_per_worker; }
  int64_t executed_flops() const { return cost_.executed_flops; }

  /// "fused forward f32_fma avx512 q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256 of 56x56_w7x7_..."
  std::string to_string() const;

  bool operator==(const Plan&) const = default;

 private:
  friend Plan make_plan(const Variant& variant, const Problem& problem, Pass pass, const PlanOptions& options);
  Plan(PlanChoice choice, PlanCost cost) : choice_(std::move(choice)), cost_(std::move(cost)) {}

  PlanChoice choice_;
  PlanCost cost_;
};

/// Throws Error if a plan is of another pass.
void require_pass(const Plan& plan, Pass pass);

/// The names by which a tiling is asked for, besides the text of one (Tiling::to_string).
inline constexpr std::string_view kBestTiling = "best";      ///< the cost model's first choice
inline constexpr std::string_view kStaticTiling = "static";  ///< its first choice with static KV tiling

/// Throws Error if a text names no tiling: neither one of those names nor the text of a tiling.
void check_tiling_name(std::string_view text);

/// What a caller may prescribe; the rest is chosen.
struct PlanOptions {
  std::string_view variant = {};     ///< empty: choose_variant()
  std::string_view arithmetic = {};  ///< used wherever it fits; empty: NALAB_ARITHMETIC, else by preference
  std::string_view tiling = {};      ///< kBestTiling (or empty), kStaticTiling, or the text of a tiling
  std::optional<Isa> isa = {};       ///< unset: choose_isa()
  /// Whether the tokens of every tensor lie at one distance from each other, as in contiguous tensors.
  bool tokens_in_a_row = true;
  const Machine* machine = nullptr;  ///< null: host_machine()
};

/// options.variant; if it is empty, best_variant(): one with tiles if a tiling is named, by the arithmetic of tiles.
/// Throws Error if there is no such variant.
const Variant& choose_variant(const Problem& problem, Pass pass, const PlanOptions& options);

/// Names of all variants, in order of preference.
std::vector<std::string_view> variant_names();

/// Throws Error if the problem is invalid, the variant does not support it in this pass, the CPU lacks the
/// instruction set, or a name or tiling does not fit: the sentence says which.
Plan make_plan(const Problem& problem, Pass pass, const PlanOptions& options = {});
/// The same for a given variant; options.variant is ignored.
Plan make_plan(const Variant& variant, const Problem& problem, Pass pass, const PlanOptions& options = {});

}  // namespace nalab
