// The one list of variants. Config parser, tests, command line and report all walk it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/kernels/attention.h"

namespace nalab {

/// One way to compute attention.
struct Variant {
  std::string_view name;        ///< in YAML, on the command line, in HDF5
  std::string_view paper_term;  ///< what the papers call it, with section
  std::string_view summary;     ///< one sentence
  /// The variant computes self attention only: in an experiment it stands for the baseline, and runs
  /// Problem::self_attention() of the problem at hand.
  bool self_attention_only = false;

  /// Nothing where the variant computes the pass of a valid problem, else a sentence that says why not.
  std::optional<std::string> (*supports)(const Problem& problem, Pass pass);
  /// Bytes of workspace that a pass of a supported problem needs.
  int64_t (*workspace_bytes)(const Problem& problem, Pass pass, int threads);
  /// Multiply-adds times 2 that the variant really executes, masked ones included; the same for every thread count.
  int64_t (*executed_flops)(const Problem& problem, Pass pass);
  /// Requires a valid, supported problem, fitting tensors and enough workspace.
  void (*forward)(const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution& execution);
  /// As forward; null where the variant has no backward pass (then supports() says so).
  void (*backward)(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved,
                   const Gradients& gradients, const Execution& execution) = nullptr;
  /// The packing that a forward call does, and nothing else: to be timed, so that a report can tell the time with and
  /// without it. Null where the variant packs nothing.
  void (*pack)(const Problem& problem, const Inputs& inputs, const Execution& execution) = nullptr;
};

/// All variants, the reference first.
std::span<const Variant> variants();
/// Throws Error that lists the names where there is no such variant.
const Variant& find_variant(std::string_view name);

}  // namespace nalab
