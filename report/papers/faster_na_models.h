// The whole models of Faster Neighborhood Attention (2403.04690): shared by its tables 5 to 8 and its claims.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "report/papers/faster_na.h"
#include "report/table.h"
#include "store/schema.h"

namespace nalab::report {

/// The table that configurations of the models name.
inline constexpr const char* kFasterNaModels = "faster_na_models";

/// The variants of the paper, in the order of its columns.
inline constexpr std::array<const char*, 3> kModelVariants{"naive", "gemm", "fused"};

/// One of the paper's tables, and which rows stand beside it.
struct ModelTable {
  int number;
  const char* key;    ///< in data/published/fna2024.yaml
  const char* title;  ///< "ImageNet throughput, half precision"
  const char* pass;
  const char* type;            ///< here
  const char* published_type;  ///< of the paper
  bool relative_bias;
  bool is_training;  ///< the figures are hours of a training, not images per second
  const char* unit;  ///< sentences on the figures

  std::string name() const { return "faster_na_table" + std::to_string(number); }
};
std::span<const ModelTable> model_tables();

/// A model of a table, published and here.
struct ModelTimes {
  const ModelTable* table = nullptr;
  std::string model;                     ///< "NAT-T", "StyleNAT-256"
  std::array<double, 3> published = {};  ///< by kModelVariants
  /// By variant, of the same batch. kBest is there if variants were measured that the paper does not have.
  std::map<std::string, const store::ModelRow*> rows = {};

  /// Why there are no times of a variant; empty if there are.
  std::string why_not(const std::string& variant) const;
  std::string why_not(const Pair& pair) const;
  // These require the times of the variants in question.
  double seconds(const std::string& variant) const;  ///< of a call
  double attention_share(const std::string& variant) const;
  double images_per_second(const std::string& variant) const;
  /// Of 300 epochs of ImageNet's training images at the speed of one step.
  double hours(const std::string& variant) const;
  double improvement(const Pair& pair) const;
  /// Why the improvement is not reliable; empty if it is.
  std::string few_samples(const Pair& pair) const;

  // Of kModelVariants.
  double published_figure(const std::string& variant) const;
  double published_improvement(const Pair& pair) const;
};

/// The models of a table in the paper's order. If the results have a model with several batches: that of which most
/// variants have times, then the largest one. Refers to the results, which must outlive it.
std::vector<ModelTimes> model_times(const store::Results& results, const ModelTable& table);

/// Whether the results have a row of one of the models.
bool has_rows(const std::vector<ModelTimes>& models);

/// On machine, build and samples of the models' rows.
std::vector<std::string> caption_of(const store::Results& results, const std::vector<ModelTimes>& models);

/// The published table beside what was measured here.
Table models_table(const store::Results& results, const std::vector<ModelTimes>& models);

}  // namespace nalab::report
