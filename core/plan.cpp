#include "core/plan.h"

#include <utility>

#include "core/error.h"
#include "core/gpu/plan.h"
#include "core/kernels/registry.h"
#include "core/simd/arithmetic.h"

namespace nalab {

namespace {

/// Whether the chosen variant computes its pass of the problem in an arithmetic within the limit.
bool fits(const Arithmetic& arithmetic, const PlanChoice& choice) {
  return choice.variant->takes(arithmetic, choice.pass) && arithmetic.computes(choice.problem.type, choice.pass) &&
         available(arithmetic, choice.isa);
}

const Arithmetic& choose_arithmetic(const PlanChoice& choice, std::string_view wanted) {
  const Arithmetic* forced = wanted.empty() ? forced_arithmetic() : &find_arithmetic(wanted);
  if (forced != nullptr && fits(*forced, choice)) return *forced;
  const auto pays = [&](const Arithmetic& arithmetic) {
    return choice.variant->pays == nullptr || choice.variant->pays(arithmetic, choice.problem, choice.pass);
  };
  for (const Arithmetic& arithmetic : arithmetics()) {
    if (fits(arithmetic, choice) && arithmetic.preferred() && pays(arithmetic)) return arithmetic;
  }
  throw Error("variant " + std::string(choice.variant->name) + " has no arithmetic for this problem");
}

/// The first candidate that is wanted; nullopt if there is none.
template <class Wanted>
std::optional<Tiling> first_candidate(const PlanChoice& choice, const Machine& machine, const Wanted& wanted) {
  // The best one is nearly always wanted, and cheap.
  for (const std::size_t most : {std::size_t{1}, kAllCandidates}) {
    for (const Tiling& tiling :
         choice.variant->candidates(choice.problem, choice.pass, *choice.arithmetic, machine, most)) {
      if (wanted(tiling)) return tiling;
    }
  }
  return std::nullopt;
}

/// Throws Error that says which part of a tiling does not fit the kernels, the problem or its variant.
void validate(const Tiling& tiling, const PlanChoice& choice, const Machine& machine) {
  const auto require = [&](bool holds, const std::string& rule) {
    if (!holds) throw Error("tiling " + tiling.to_string() + ": " + rule);
  };
  const std::string most_tiles = std::to_string(kMaxQueryTiles);
  const int64_t heads_per_kv = choice.problem.heads / choice.problem.heads_kv;
  require(tiling.lanes == 16 || tiling.lanes == 32, "l must be 16 or 32, the lanes that kernels are written for");
  require(tiling.lanes == 32 || choice.arithmetic->parts(choice.pass) == 0,
          "l must be 32 in the arithmetic " + std::string(choice.arithmetic->name) + ", " + name(choice.pass));
  for (int axis = 0; axis < geometry::kAxes; ++axis) {
    require(tiling.query[axis] <= tiling.lanes, "no extent of q may exceed l");
    require(tiling.super[axis] <= kMaxQueryTiles, "no extent of s may exceed " + most_tiles);
    require(tiling.kv[axis] <= kMaxKvTile, "no extent of kv may exceed " + std::to_string(kMaxKvTile));
  }
  require(tiling.query[0] * tiling.query[1] * tiling.query[2] == tiling.lanes, "the extents of q must multiply to l");
  require(tiling.heads <= heads_per_kv && heads_per_kv % tiling.heads == 0,
          "h must divide the " + std::to_string(heads_per_kv) + " query heads of a kv head");
  require(tiling.query_tiles() <= kMaxQueryTiles, "the extents of s and h must multiply to at most " + most_tiles);
  require(tiling.block_keys % 8 == 0 && tiling.block_keys <= kMaxBlockKeys,
          "b must be a multiple of 8 up to " + std::to_string(kMaxBlockKeys));
  // A variant does not compute what it offers no tiling for.
  const auto offers = [&](const auto& alike) { return first_candidate(choice, machine, alike).has_value(); };
  const std::string variant = "variant " + std::string(choice.variant->name);
  require(offers([&](const Tiling& t) { return t.flat == tiling.flat; }),
          variant + (tiling.flat ? " does not flatten layouts" : " needs a flat tiling"));
  require(!tiling.has_static_kv() || offers([](const Tiling& t) { return t.has_static_kv(); }),
          variant + " has no static KV tiling");
}

bool is_best_tiling(std::string_view tiling) { return tiling.empty() || tiling == kBestTiling; }

std::optional<Tiling> choose_tiling(const PlanChoice& choice, const PlanOptions& options) {
  const bool best = is_best_tiling(options.tiling);
  if (choice.variant->candidates == nullptr) {
    if (best) return std::nullopt;
    throw Error("tiling '" + std::string(options.tiling) + "': variant " + std::string(choice.variant->name) +
                " has no tiles");
  }
  const Machine& machine = options.machine != nullptr ? *options.machine : host_machine();
  const auto possible = [&](const Tiling& tiling) { return options.tokens_in_a_row || !tiling.flat; };
  if (best || options.tiling == kStaticTiling) {
    const auto found = first_candidate(
        choice, machine, [&](const Tiling& tiling) { return possible(tiling) && (best || tiling.has_static_kv()); });
    if (found) return found;
    throw Error("variant " + std::string(choice.variant->name) + " has no static KV tiling");
  }
  const Tiling tiling = parse_tiling(options.tiling);
  validate(tiling, choice, machine);
  if (!possible(tiling)) throw cannot_flatten(tiling);
  return tiling;
}

}  // namespace

std::string_view Plan::variant_name() const { return variant().name; }
std::string_view Plan::arithmetic_name() const { return arithmetic().name; }

std::string Plan::tiling_text() const {
  if (cost_.gpu_tiles != nullptr) return gpu::to_string(cost_.gpu_tiles->shape());
  return has_tiling() ? tiling().to_string() : "";
}

std::string Plan::to_string() const {
  std::string text = std::string(variant_name()) + " " + name(pass()) + " " + std::string(arithmetic_name()) + " " +
                     std::string(name(isa()));
  if (const std::string tiles = tiling_text(); !tiles.empty()) text += " " + tiles;
  return text + " of " + problem().id();
}

void require_pass(const Plan& plan, Pass pass) {
  if (plan.pass() == pass) return;
  throw Error("the plan is of the " + std::string(name(plan.pass())) + " pass, must be of the " + name(pass));
}

void check_tiling_name(std::string_view text) {
  if (text != kBestTiling && text != kStaticTiling) parse_tiling(text);
}

std::vector<std::string_view> variant_names() {
  std::vector<std::string_view> names;
  for (const Variant& variant : variants()) names.push_back(variant.name);
  return names;
}

const Variant& choose_variant(const Problem& problem, Pass pass, const PlanOptions& options) {
  if (!options.variant.empty()) return find_variant(options.variant);
  if (is_split(pass)) return best_variant(problem, pass, !is_best_tiling(options.tiling));
  PlanChoice tiles;
  tiles.variant = &find_variant("fused");
  tiles.problem = problem;
  tiles.pass = pass;
  tiles.isa = options.isa ? *options.isa : choose_isa();
  return best_variant(problem, pass, !is_best_tiling(options.tiling),
                      choose_arithmetic(tiles, options.arithmetic).name);
}

Plan make_plan(const Problem& problem, Pass pass, const PlanOptions& options) {
  problem.validate();
  return make_plan(choose_variant(problem, pass, options), problem, pass, options);
}

Plan make_plan(const Variant& variant, const Problem& problem, Pass pass, const PlanOptions& options) {
  problem.validate();
  PlanChoice choice;
  choice.variant = &variant;
  choice.problem = problem;
  choice.pass = pass;
  choice.isa = options.isa ? *options.isa : choose_isa();
  if (!cpu_supports(choice.isa)) throw Error("this CPU lacks the instruction set " + std::string(name(choice.isa)));
  if (const auto reason = variant.supports(problem, pass)) throw Error(*reason);
  choice.arithmetic = &choose_arithmetic(choice, options.arithmetic);
  choice.tiling = choose_tiling(choice, options);
  PlanCost cost = variant.cost(choice);
  return Plan(std::move(choice), std::move(cost));
}

}  // namespace nalab
