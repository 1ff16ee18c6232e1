// The operations of a classifier's graph forward and backward: steps of a training program.
#pragma once

#include <vector>

#include "models/layers/layers.h"

namespace nalab::models {

/// What the backward step of a node reads and writes beside what its forward step does. Buffers and gradients outlive
/// it.
struct BackwardSite {
  Site forward;
  Buffer d_output;               ///< gradient of the loss by the output
  std::vector<Buffer> d_inputs;  ///< written: by each input; without data where nothing asks for it
  Weights& gradients;            ///< written: by each parameter, in vectors of its size

  const Buffer& x() const { return forward.x(); }
  float* gradient(const std::string& name) const { return gradients.at(name).data(); }
};

/// The forward step keeps what the backward step needs.
struct TrainingSteps {
  Step forward, backward;
};

TrainingSteps make_training_steps(const Convolution& convolution, const BackwardSite& site);
TrainingSteps make_training_steps(const Linear& linear, const BackwardSite& site);
TrainingSteps make_training_steps(const Gelu& gelu, const BackwardSite& site);
TrainingSteps make_training_steps(const LayerNorm& norm, const BackwardSite& site);
TrainingSteps make_training_steps(const Attention& attention, const BackwardSite& site);
TrainingSteps make_training_steps(const MergePatches& merge, const BackwardSite& site);
TrainingSteps make_training_steps(const Mean& mean, const BackwardSite& site);

/// Adds the rows of a matrix of partial sums [count, size] in their order.
void add_up(Workers& workers, const float* partial, int64_t count, int64_t size, float* sum);
/// The sums of columns of a matrix [rows, columns] of a buffer's type; partial: of column_slices(rows) rows.
int64_t column_slices(int64_t rows);
void add_columns(Workers& workers, const Buffer& matrix, float* partial, float* sum);

}  // namespace nalab::models
