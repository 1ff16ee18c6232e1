#include "store/arrays.h"

#include <algorithm>

#include "core/error.h"
#include "store/hdf5.h"
#include "store/new_hdf5_file.h"

namespace nalab::store {

namespace {

using hdf5::shape_text;

/// A dataset of floating point numbers. Throws Error if it is anything else.
hdf5::Handle open_floats(hid_t file, const std::string& name) {
  hdf5::Handle dataset = hdf5::open_dataset(file, name);
  const hdf5::Handle type(H5Dget_type(dataset), name);
  if (H5Tget_class(type) != H5T_FLOAT) throw Error("is " + hdf5::type_text(type) + ", must be float32");
  return dataset;
}

std::vector<float> read_weight(hid_t file, const WeightInfo& wanted) {
  const std::string must = ", must be " + shape_text(wanted.shape);
  if (!hdf5::has_link(file, wanted.name)) throw Error("is missing" + must);
  const hdf5::Handle dataset = open_floats(file, wanted.name);
  const hdf5::Extents shape = hdf5::shape_of(dataset);
  if (shape != wanted.shape) throw Error("has shape " + shape_text(shape) + must);
  return hdf5::read_values<float>(dataset);
}

void refuse_unknown(hid_t file, const std::string& model, const std::vector<WeightInfo>& wanted) {
  const std::vector<std::string> names = hdf5::children(file, H5O_TYPE_DATASET);
  const auto unknown = std::ranges::find_if(names, [&](const std::string& name) {
    return std::ranges::find(wanted, name, &WeightInfo::name) == wanted.end();
  });
  if (unknown == names.end()) return;
  throw Error("tensor " + *unknown + " of shape " + shape_text(hdf5::shape_of(hdf5::open_dataset(file, *unknown))) +
              " is not part of the model " + model);
}

void require_attribute(hid_t file, const char* name, const std::string& must) {
  const auto value = hdf5::read_attribute<std::string>(file, name);
  if (value != must) throw Error(std::string("attribute ") + name + " is '" + value + "', must be '" + must + "'");
}

}  // namespace

std::map<std::string, std::vector<float>> read_weights(const std::string& path, const std::string& model,
                                                       const std::vector<WeightInfo>& wanted) {
  const hdf5::Handle file = hdf5::open_file(path);
  return hdf5::within(path, [&] {
    require_attribute(file, "schema", kWeightsSchema);
    require_attribute(file, "model", model);
    std::map<std::string, std::vector<float>> weights;
    for (const WeightInfo& info : wanted) {
      weights[info.name] = hdf5::within("tensor " + info.name, [&] { return read_weight(file, info); });
    }
    refuse_unknown(file, model, wanted);
    return weights;
  });
}

Array read_array(const std::string& path, const std::string& name, std::size_t rank) {
  const hdf5::Handle file = hdf5::open_file(path);
  return hdf5::within(path + ": dataset " + name, [&]() -> Array {
    if (!hdf5::has_link(file, name)) throw Error("is missing");
    const hdf5::Handle dataset = open_floats(file, name);
    hdf5::Extents shape = hdf5::shape_of(dataset);
    if (shape.size() != rank) {
      throw Error("has shape " + shape_text(shape) + ", must have " + std::to_string(rank) + " extents");
    }
    return {std::move(shape), hdf5::read_values<float>(dataset)};
  });
}

void write_array(const std::string& path, const std::string& name, const Array& array,
                 const std::map<std::string, std::string>& attributes) {
  hdf5::NewHdf5File target(path);
  target.write([&](hid_t file) {
    for (const auto& [attribute, value] : attributes) hdf5::write_attribute(file, attribute, value);
    hdf5::write_tensor(file, name, array.shape, array.data);
  });
  target.commit();
}

}  // namespace nalab::store
