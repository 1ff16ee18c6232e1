// A model that can be run: a graph with weights, for one batch, element type and variant of attention.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/parallel.h"
#include "core/tensor/element.h"
#include "models/graph.h"
#include "models/weights.h"

namespace nalab::models {

struct ProgramOptions {
  int64_t batch = 1;
  ElementType type = ElementType::f32;  ///< of values and weights: f32 or bf16; images and logits are f32
  std::string variant = {};             ///< of attention; empty: the best one of each layer
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
  /// The workers must outlive the program; the rest is copied. Throws Error if the variant does not support one of the
  /// layers, or oneDNN not the type on this CPU.
  Program(const Graph& graph, const Weights& weights, const ProgramOptions& options, Workers& workers);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// input: [batch, rows, columns, channels] of the graph's input, output: of its output. One call at a time.
  Seconds forward(std::span<const float> input, std::span<float> output);

  int64_t input_elements() const;
  int64_t output_elements() const;
  /// Of values and workspace; weights are not counted.
  int64_t memory_bytes() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace nalab::models
