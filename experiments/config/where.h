// The conditions of a grid: per-axis comparisons such as "window * dilation <= layout".
//
//   condition = sum ("<=" | "<" | ">=" | ">" | "==" | "!=") sum
//   sum       = product {("+" | "-") product}
//   product   = value {("*" | "/" | "%") value}        "/" is integer division, as div in the definitions
//   value     = integer | name | "(" sum ")"
//   name      = layout | window | stride | dilation | causal         one value per axis
//             | batch | heads | heads_kv | head_dim | head_dim_v | extra_tokens | relative_bias
//             | rank
//             | tokens | keys                                      products of layout and of window over the axes
#pragma once

#include <string_view>

#include "core/problem.h"

namespace nalab::config {

/// Whether the condition holds on every axis of the problem, which need not be valid.
/// Throws Error "expected ..., got ..." (without a position) if the text is not a condition.
bool holds(std::string_view condition, const Problem& problem);

}  // namespace nalab::config
