// Whole models in a plan.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/kernels/registry.h"
#include "experiments/config/config.h"
#include "experiments/model/model.h"

namespace nalab::plan {

struct Resources;

/// One (model, batch, type, variant, pass).
struct PlannedModel {
  std::string id;        ///< stable: model, images, bias, batch, type, variant and pass; no '/'
  int64_t position = 0;  ///< among all that the configurations request, filtered or not, counted from 0
  std::string config;    ///< name of the configuration that asked for it first
  std::string label;
  model::Request request;
  const Variant* variant = nullptr;
  Isa isa = Isa::baseline;             ///< limit on the instructions used
  std::optional<std::string> refusal;  ///< why the row is not run; unset if it is

  model::Facts facts;            ///< if the model cannot be made all 0, but for a size that was asked for
  std::string arithmetic;        ///< that of attention; several are separated by spaces
  bool has_reference = false;    ///< whether one image is compared with what the reference attention makes of it
  double reference_seconds = 0;  ///< that the reference attention takes for one image
  int64_t workspace_bytes = 0;   ///< of attention; 0 for a refused row
  int64_t memory_bytes = 0;      ///< everything that must be in memory, verification included
  double seconds = 0;            ///< expected, verification included; 0 for a refused row
};

/// The variants of one model, batch, type and pass, whose samples are interleaved.
struct ModelGroup {
  std::vector<PlannedModel> rows;
  config::Settings settings;
  std::string arithmetic;             ///< where it computes attention; empty: by preference
  std::optional<Device> device = {};  ///< that their run names
};

/// The group of a model and of some variants. Rows are refused if the model cannot be made, if the variant does not
/// compute one of its layers, or if the machine has too little memory.
ModelGroup make_model_group(const config::ModelSettings& model, ElementType type,
                            const std::vector<std::string>& variants, const config::Settings& settings,
                            const Resources& resources);

/// Why a row is refused that needs more memory than so many bytes: as for rows of attention.
std::optional<std::string> lacks_memory(const PlannedModel& row, int64_t bytes, std::string_view clause);

/// Multiply-adds of a call, times 2. A backward pass counts twice.
int64_t flops_of_call(const PlannedModel& row);

}  // namespace nalab::plan
