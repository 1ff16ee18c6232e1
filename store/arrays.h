// Plain arrays in HDF5 files: weights of models (schema nalab.weights/1), and what models read and give.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nalab::store {

inline constexpr const char* kWeightsSchema = "nalab.weights/1";

/// Numbers with a shape, row-major.
struct Array {
  std::vector<int64_t> shape;
  std::vector<float> data;
};

/// A tensor that a weights file must have.
struct WeightInfo {
  std::string name;
  std::vector<int64_t> shape;
};

/// The tensors of a weights file by name. Throws Error if the file is not one of that model, or names the first tensor
/// that is missing, has another shape or is not one of them: with both shapes.
std::map<std::string, std::vector<float>> read_weights(const std::string& path, const std::string& model,
                                                       const std::vector<WeightInfo>& wanted);

/// A dataset of floating point numbers at the root of a file. Throws Error if it is missing or has another type or
/// another number of extents.
Array read_array(const std::string& path, const std::string& name, std::size_t rank);
/// A new file with one float32 dataset at its root, and attributes of text.
void write_array(const std::string& path, const std::string& name, const Array& array,
                 const std::map<std::string, std::string>& attributes);

}  // namespace nalab::store
