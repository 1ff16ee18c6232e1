// Training of classifiers: forward, backward and AdamW.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "models/program.h"

namespace nalab::models {

/// AdamW (1711.05101). Weights decay where they are matrices or kernels, not norms, biases, tables and factors.
struct AdamW {
  double rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double decay = 0.05;
};

/// A classifier with the memory that training needs. Weights, their gradients and the optimizer's moments are float32
/// whatever the element type. Results do not depend on the number of workers.
class Trainer {
 public:
  /// graph: of a classifier, built for training. The workers must outlive the trainer. Throws Error as Program does,
  /// and if the variant or an operation has no backward pass.
  Trainer(const Graph& graph, Weights weights, const ProgramOptions& options, Workers& workers);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// What a pass took, and the mean cross entropy of the images' labels.
  struct Result {
    double loss = 0;
    Seconds seconds;
  };
  /// Which of the variants calls use from now on; the first until then.
  void choose(std::size_t variant);
  /// Makes all values and gradients no numbers, so that what a call does not compute shows.
  void forget();
  /// Forward and backward. images: [batch, rows, columns, 3]; labels: a class of each.
  Result gradients(std::span<const float> images, std::span<const int32_t> labels);
  /// Changes the weights by the gradients of the last call.
  void update(const AdamW& optimizer);

  const Weights& weights() const;
  /// Of the loss, by each parameter.
  const Weights& weight_gradients() const;
  /// For tests: other weights.
  void set_weights(const Weights& weights);
  /// Of values, their gradients and workspace.
  int64_t memory_bytes() const;
  /// Those of values and their gradients, of a trainer that is yet to be made.
  static int64_t value_bytes(const Graph& graph, int64_t batch, ElementType type);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace nalab::models
