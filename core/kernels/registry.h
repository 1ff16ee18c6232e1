// The one list of variants. Config parser, tests, command line and report all walk it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/device.h"
#include "core/machine.h"
#include "core/parallel.h"
#include "core/plan.h"
#include "core/simd/arithmetic.h"
#include "core/tensors.h"

namespace nalab {

/// As a limit: all candidates that there are.
inline constexpr std::size_t kAllCandidates = std::numeric_limits<std::size_t>::max();

/// What executes a call, apart from what is computed: results never depend on the number of workers.
struct Execution {
  Workers& workers;
  std::span<std::byte> workspace;  ///< 64-byte aligned, at least as large as the plan states
};

/// The operators on the weights themselves, as core/operators/split_attention.h has them; each requires a plan of its
/// pass, and fitting tensors.
struct SplitOperators {
  void (*weights)(const Plan& plan, const Inputs& inputs, const TensorView& attn, const Execution& execution);
  void (*weights_backward)(const Plan& plan, const Inputs& inputs, const ConstTensorView& dattn,
                           const Gradients& gradients, const Execution& execution);
  void (*values)(const Plan& plan, const ConstTensorView& attn, const Inputs& inputs, const TensorView& out,
                 const Execution& execution);
  void (*values_backward)(const Plan& plan, const ConstTensorView& attn, const Inputs& inputs,
                          const ConstTensorView& dout, const TensorView& dattn, const Gradients& gradients,
                          const Execution& execution);
};

/// One way to compute attention.
struct Variant {
  std::string_view name;        ///< in YAML, on the command line, in HDF5
  std::string_view paper_term;  ///< what the papers call it, with section
  std::string_view summary;     ///< one sentence
  /// The others are compared with it: slow, and obviously right.
  bool is_oracle = false;
  /// The variant computes self attention only: in an experiment it stands for the baseline, and runs
  /// Problem::self_attention() of the problem at hand.
  bool self_attention_only = false;
  /// Where it computes. Tensors of a call are on the host nevertheless, unless it is opened.
  Device device = Device::cpu;
  /// What one thread, or a device other than the CPU, reaches, FLOP/s, roughly: for estimates before anything has been
  /// timed.
  double expected_flops_per_second = 0;

  /// nullopt if the variant computes the pass of a valid problem, otherwise the reason why not, as a sentence.
  std::optional<std::string> (*supports)(const Problem& problem, Pass pass);
  /// Whether the variant is written for an arithmetic in a pass.
  bool (*takes)(const Arithmetic& arithmetic, Pass pass);
  /// Whether an arithmetic that it takes, and that is preferred in general, pays for a problem: asked where none is
  /// named. Null if it always does.
  bool (*pays)(const Arithmetic& arithmetic, const Problem& problem, Pass pass) = nullptr;
  /// Tilings for a supported problem and an arithmetic in the order of the cost model, the best first: at most `most`
  /// of them. Null if the variant has no tiles.
  std::vector<Tiling> (*candidates)(const Problem& problem, Pass pass, const Arithmetic& arithmetic,
                                    const Machine& machine, std::size_t most) = nullptr;
  /// What a plan costs; asked once, when the plan is made.
  PlanCost (*cost)(const PlanChoice& choice);
  /// Requires a plan of this variant and pass, and fitting tensors.
  void (*forward)(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution);
  /// As forward; null if the variant has no backward pass (then supports() says so).
  void (*backward)(const Plan& plan, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
                   const Execution& execution) = nullptr;
  /// Null if the variant never has the weights in memory (then supports() says so).
  const SplitOperators* split = nullptr;
  /// The packing that a forward call does, and nothing else: to be timed, so that a report can tell the time with and
  /// without it. Null if the variant packs nothing.
  void (*pack)(const Plan& plan, const Inputs& inputs, const Execution& execution) = nullptr;
  /// Requires a plan of the forward pass. Copies the inputs to the variant's device, so that calls there can be timed
  /// without copies. Null if the variant computes on the CPU.
  std::unique_ptr<Resident> (*open)(const Plan& plan, const Inputs& inputs) = nullptr;
};

/// All variants, in order of preference.
std::span<const Variant> variants();
/// Throws Error that lists the names if there is no such variant.
const Variant& find_variant(std::string_view name);
/// The first variant by preference that supports a pass of a valid problem, of those of the CPU; the oracle supports
/// all. For small windows banded or naive where they were measured to be faster, for a split operator the faster of
/// naive and gemm. tiled: of those alone that have tiles. tiles: the arithmetic of fused; the faster it is, the sooner
/// tiles pay.
const Variant& best_variant(const Problem& problem, Pass pass, bool tiled = false, std::string_view tiles = kF32Fma);

}  // namespace nalab
