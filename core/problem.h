// What is computed: a neighborhood attention problem, apart from how.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "geometry/bias.h"
#include "geometry/tiles.h"
#include "geometry/token.h"
#include "tensor/element.h"

namespace nalab {

using geometry::Axis;
using geometry::Token;
using geometry::token_at;

/// What a call computes. forward: out and lse. backward: the gradients, from saved out and lse. The others are those of
/// two operators for callers who work on the weights between the products: `weights` gives the scores of every window
/// slot, `values` sums values by given weights (core/operators/split_attention.h).
enum class Pass : uint8_t { forward, backward, weights, weights_backward, values, values_backward };

inline constexpr std::array kPasses{Pass::forward,          Pass::backward, Pass::weights,
                                    Pass::weights_backward, Pass::values,   Pass::values_backward};
constexpr bool is_backward(Pass pass) {
  return pass == Pass::backward || pass == Pass::weights_backward || pass == Pass::values_backward;
}
/// Whether a pass is one of the operators on the weights themselves.
constexpr bool is_split(Pass pass) { return pass != Pass::forward && pass != Pass::backward; }

/// One broken rule.
struct Violation {
  int axis = 0;           ///< counted from 1; 0 if the rule is not about an axis
  std::string parameter;  ///< "window", "heads_kv", ...
  std::string value;
  std::string rule;  ///< "must be at most 4, the layout 9 div the dilation 2"

  /// "axis 2: window 5 must be at most 4, the layout 9 div the dilation 2"
  std::string to_string() const;
};

/// A (generalized) neighborhood attention problem.
///
/// Tensors are heads-last: q [batch, X..., heads, head_dim], k [batch, X..., heads_kv, head_dim],
/// v [batch, X..., heads_kv, head_dim_v], extra_k and extra_v [batch, extra_tokens, heads_kv, ...],
/// out [batch, X..., heads, head_dim_v], lse [batch, X..., heads]. Query head h reads kv head h div (heads / heads_kv).
/// rpb, a relative positional bias if the problem has one: [heads, 2 w1 - 1, (2 w2 - 1, (2 w3 - 1))].
struct Problem {
  std::vector<Axis> axes = {};  ///< the token layout X with window, stride, dilation, causal per axis; one to three
  int64_t batch = 1;
  int64_t heads = 1;
  int64_t heads_kv = 1;
  int64_t head_dim = 64;
  int64_t head_dim_v = 64;
  int64_t extra_tokens = 0;  ///< tokens that every query attends to (text, registers)
  /// A bias for each relative offset of a key is added to the scaled scores (Neighborhood Attention, 2204.07143,
  /// section 3.1); extra tokens have none.
  bool relative_bias = false;
  std::optional<double> scale = std::nullopt;  ///< of the scores; unset: 1 / sqrt(head_dim); for `weights` 1
  ElementType type = ElementType::f32;

  bool operator==(const Problem&) const = default;

  int rank() const { return static_cast<int>(axes.size()); }
  double effective_scale() const;
  /// The scale of the pass `weights` and its backward pass: 1 if unset.
  double weights_scale() const { return scale.value_or(1.0); }

  /// All rules that the problem breaks; empty for a valid problem.
  std::vector<Violation> violations() const;
  /// Throws Error with all violations in one line, joined by "; ".
  void validate() const;

  // What follows requires a valid problem.

  /// The axes embedded in three by leading axes of one token.
  std::array<Axis, geometry::kAxes> axes3() const;
  /// Tokens of the layout, extra tokens not counted.
  int64_t tokens() const;
  /// Entries of the bias table of one head: of the window's relative offsets.
  int64_t bias_entries() const { return geometry::BiasTable(axes3()).size(); }
  /// Keys that one query attends to, extra tokens included; with causal axes the most that any query attends to.
  int64_t keys_per_query() const;
  /// Exact number of attended (query, key) pairs of one head of one batch entry, extra tokens included.
  int64_t attended_pairs() const;
  /// FLOPs that the definition needs for one attended (query, key) pair of one head: 2 for each multiply-add.
  int64_t flops_per_pair(Pass pass) const;
  /// FLOPs that the definition needs, over batch and heads: 2 for each multiply-add.
  /// forward: the products q k^T and p v. backward: five products (scores again, dp, dq, dk, dv). weights: q k^T;
  /// backward: two. values: p v; backward: two. The bias is not counted.
  int64_t useful_flops(Pass pass) const;
  /// Bytes of the tensors that a pass must read and write once.
  int64_t tensor_bytes(Pass pass) const;

  /// Whether every query attends to every token: the problem is self attention.
  bool is_self_attention() const;
  /// The same tensors with self attention over all tokens: the baseline of the speedups. A bias is left out unless the
  /// problem is self attention: the table is that of the window.
  Problem self_attention() const;

  /// Stable, unique text fit for a file or group name, such as
  /// "56x56_w7x7_s1x1_d1x1_c0x0_b1_h2_kv2_dk32_dv32_e0_f32" ("_scale0.5" before the type if the scale is set, "_rpb" at
  /// the end with a relative bias).
  std::string id() const;
};

/// A parameter of each axis: per_axis(problem, &Axis::window).
template <class T>
std::vector<int64_t> per_axis(const Problem& problem, T Axis::*parameter) {
  std::vector<int64_t> values;
  for (const Axis& axis : problem.axes) values.push_back(axis.*parameter);
  return values;
}

/// "30x48x80"
std::string extents_text(std::span<const int64_t> extents);
/// The numbers of "30x48x80" or "30,48,80", of any sign and at least one. Throws Error that names the field, the text
/// and the rule if the text is anything else.
std::vector<int64_t> parse_extents(std::string_view field, std::string_view text);
/// The layout's extents_text.
std::string layout_text(const Problem& problem);

const char* name(Pass pass);
/// Throws Error that lists the names for anything else.
Pass parse_pass(std::string_view text);

}  // namespace nalab
