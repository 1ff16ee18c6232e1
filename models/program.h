// A model that can be run: a graph with weights, for one batch, element type and variant of attention.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/simd/isa.h"
#include "core/tensor/element.h"
#include "models/graph.h"
#include "models/weights.h"

namespace nalab::models {

struct ProgramOptions {
  int64_t batch = 1;
  ElementType type = ElementType::f32;  ///< of values and weights: f32 or bf16; images and logits are f32
  /// Of attention: each call uses one of them in all layers. Everything else, memory included, is the same for all.
  /// Empty text: the best one of each layer.
  std::vector<std::string> variants = {""};
  std::optional<Isa> isa = {};  ///< limit on the instructions used; unset: choose_isa()
  std::string arithmetic = {};  ///< of attention, wherever it fits; empty: NALAB_ARITHMETIC, else by preference
};

/// What one call took.
struct Seconds {
  double all = 0;
  double attention = 0;  ///< of that, within the layers of attention
};

/// Everything is decided and allocated when it is made; a call only computes, all of it on the same workers. Results do
/// not depend on their number.
class Program {
 public:
  /// The workers must outlive the program; the rest is copied. Throws Error if there is no variant, if one does not
  /// support one of the layers, or oneDNN not the type on this CPU, or if an earlier one of the process had another
  /// limit on instructions.
  Program(const Graph& graph, const Weights& weights, const ProgramOptions& options, Workers& workers);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// Which of the variants calls use from now on; the first until then.
  void choose(std::size_t variant);
  /// Makes all values no numbers, so that what a call does not compute shows.
  void forget();
  /// input: [batch, rows, columns, channels] of the graph's input, output: of its output. One call at a time.
  Seconds forward(std::span<const float> input, std::span<float> output);

  int64_t input_elements() const;
  int64_t output_elements() const;
  /// Of values and workspace; weights are not counted.
  int64_t memory_bytes() const;
  /// Those of values, of a program that is yet to be made.
  static int64_t value_bytes(const Graph& graph, int64_t batch, ElementType type);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace nalab::models
