#include "tests/fuzz/hdf5_edits.h"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <vector>

#include "store/hdf5.h"

namespace nalab::fuzz {
namespace {

using store::hdf5::Handle;

/// Of an attribute or a dataset that is written in full.
constexpr hsize_t kMostBytes = 4096;

Handle copy_of(hid_t type) { return {H5Tcopy(type), "type"}; }

Handle text_type(std::size_t size) {
  Handle type = copy_of(H5T_C_S1);
  H5Tset_size(type, size);
  return type;
}

Handle compound_type() {
  Handle type(H5Tcreate(H5T_COMPOUND, 16), "type");
  H5Tinsert(type, "id", 0, H5T_NATIVE_INT64);
  H5Tinsert(type, "name", 8, H5T_NATIVE_DOUBLE);
  return type;
}

Handle array_type() {
  const hsize_t two = 2;
  return {H5Tarray_create2(H5T_NATIVE_FLOAT, 1, &two), "type"};
}

Handle boolean_type() {  // as h5py writes it
  Handle type(H5Tenum_create(H5T_NATIVE_INT8), "type");
  for (int8_t value : {0, 1}) H5Tenum_insert(type, value == 0 ? "FALSE" : "TRUE", &value);
  return type;
}

Handle any_type(FuzzedDataProvider& choices) {
  switch (choices.ConsumeIntegralInRange(0, 15)) {
    case 0:
      return copy_of(H5T_NATIVE_INT8);
    case 1:
      return copy_of(H5T_STD_I32BE);
    case 2:
      return copy_of(H5T_NATIVE_UINT64);
    case 3:
      return copy_of(H5T_NATIVE_FLOAT);
    case 4:
      return copy_of(H5T_IEEE_F64BE);
    case 5:
      return copy_of(H5T_NATIVE_LDOUBLE);
    case 6:
      return text_type(choices.ConsumeIntegralInRange<std::size_t>(1, 64));
    case 7:
      return text_type(H5T_VARIABLE);
    case 8:
      return compound_type();
    case 9:
      return array_type();
    case 10:
      return boolean_type();
    case 11:
      return copy_of(H5T_STD_REF_OBJ);
    case 12:
      return copy_of(H5T_STD_B16LE);
    case 13:
      return {H5Tvlen_create(H5T_NATIVE_INT32), "type"};
    case 14:
      return {H5Tcreate(H5T_OPAQUE, 3), "type"};
    default:
      return copy_of(H5T_NATIVE_INT64);
  }
}

Handle any_space(FuzzedDataProvider& choices) {
  const int rank = choices.ConsumeIntegralInRange(-1, 7);
  if (rank == -1) return {H5Screate(H5S_NULL), "space"};
  if (rank == 0) return {H5Screate(H5S_SCALAR), "space"};
  constexpr std::array<hsize_t, 12> kExtents{0, 1, 1, 2, 2, 3, 4, 5, 1000, 1 << 20, hsize_t{1} << 33, hsize_t{1} << 62};
  std::vector<hsize_t> extents;
  for (int i = 0; i < rank; ++i) extents.push_back(choices.PickValueInArray(kExtents));
  return {H5Screate_simple(rank, extents.data(), nullptr), "space"};
}

/// The values to write; empty if there are none, or too many.
std::vector<uint8_t> any_values(hid_t type, hid_t space, FuzzedDataProvider& choices) {
  const hssize_t points = H5Sget_simple_extent_npoints(space);
  if (points <= 0 || points > static_cast<hssize_t>(kMostBytes)) return {};
  const hsize_t bytes = static_cast<hsize_t>(points) * H5Tget_size(type);
  // What is in memory for these is an address.
  const bool has_addresses = H5Tis_variable_str(type) > 0 || H5Tget_class(type) == H5T_VLEN;
  if (bytes > kMostBytes || has_addresses) return {};
  std::vector<uint8_t> values = choices.ConsumeBytes<uint8_t>(bytes);
  values.resize(bytes);
  return values;
}

std::string any_name(const std::vector<std::string>& present, FuzzedDataProvider& choices) {
  constexpr std::array kNames{"q",      "k",        "v",      "extra_k", "rpb",    "dout",        "expected", "out",
                              "window", "dilation", "causal", "scale",   "schema", "samples",     "rows",     "peaks",
                              "shard",  "tensors",  "text",   "index",   "count",  "simulations", "models"};
  if (!present.empty() && choices.ConsumeBool()) {
    return present[choices.ConsumeIntegralInRange<std::size_t>(0, present.size() - 1)];
  }
  if (choices.ConsumeBool()) return choices.PickValueInArray(kNames);
  return choices.ConsumeRandomLengthString(8);
}

std::vector<std::string> attributes_of(hid_t object) {
  std::vector<std::string> names;
  const auto add = [](hid_t, const char* name, const H5A_info_t*, void* to) -> herr_t {
    static_cast<std::vector<std::string>*>(to)->emplace_back(name);
    return 0;
  };
  H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, nullptr, add, &names);
  return names;
}

/// The paths of all objects, the root among them.
std::vector<std::string> objects_of(hid_t file) {
  std::vector<std::string> paths;
  const auto add = [](hid_t, const char* path, const H5O_info_t*, void* to) -> herr_t {
    static_cast<std::vector<std::string>*>(to)->emplace_back(path);
    return 0;
  };
  H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, add, &paths, H5O_INFO_BASIC);
  return paths;
}

void put_attribute(hid_t object, FuzzedDataProvider& choices) {
  const std::string name = any_name(attributes_of(object), choices);
  H5Adelete(object, name.c_str());
  if (choices.ConsumeIntegralInRange(0, 3) == 0) return;
  const Handle type = any_type(choices);
  const Handle space = any_space(choices);
  const Handle attribute(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), name);
  if (H5Tis_variable_str(type) > 0 && H5Sget_simple_extent_npoints(space) == 1) {
    const std::string text = choices.ConsumeRandomLengthString(64);
    const char* address = text.c_str();
    H5Awrite(attribute, type, &address);
  } else if (const auto values = any_values(type, space, choices); !values.empty()) {
    H5Awrite(attribute, type, values.data());
  }
}

/// Puts a dataset, a group or a link in the place of what has the path.
void put_object(hid_t file, const std::vector<std::string>& objects, const std::string& path,
                FuzzedDataProvider& choices) {
  H5Ldelete(file, path.c_str(), H5P_DEFAULT);
  const auto other = [&] { return objects[choices.ConsumeIntegralInRange<std::size_t>(0, objects.size() - 1)]; };
  switch (choices.ConsumeIntegralInRange(0, 5)) {
    case 0:
      return;
    case 1:
      H5Lcreate_hard(file, other().c_str(), file, path.c_str(), H5P_DEFAULT, H5P_DEFAULT);
      return;
    case 2:
      H5Lcreate_soft(choices.ConsumeBool() ? path.c_str() : other().c_str(), file, path.c_str(), H5P_DEFAULT,
                     H5P_DEFAULT);
      return;
    case 3:
      H5Lcreate_external("/dev/null", "/", file, path.c_str(), H5P_DEFAULT, H5P_DEFAULT);
      return;
    case 4:
      Handle(H5Gcreate2(file, path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), path);
      return;
    default:
      break;
  }
  const Handle type = any_type(choices);
  const Handle space = any_space(choices);
  const Handle dataset(H5Dcreate2(file, path.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), path);
  if (const auto values = any_values(type, space, choices); !values.empty()) {
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  }
}

void edit(hid_t file, FuzzedDataProvider& choices) {
  const std::vector<std::string> objects = objects_of(file);
  const std::string path = objects[choices.ConsumeIntegralInRange<std::size_t>(0, objects.size() - 1)];
  if (choices.ConsumeBool()) {
    const Handle object(H5Oopen(file, path.c_str(), H5P_DEFAULT), path);
    put_attribute(object, choices);
  } else {
    const bool is_new = choices.ConsumeBool();
    put_object(file, objects, is_new ? path + "/" + any_name({}, choices) : path, choices);
  }
}

}  // namespace

std::string edited(const std::string& file, FuzzedDataProvider& choices) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), "file access");
  H5Pset_fapl_core(access, 1 << 16, /*backing_store=*/false);
  H5Pset_file_image(access, const_cast<char*>(file.data()), file.size());
  const Handle memory(H5Fopen("edited", H5F_ACC_RDWR, access), "file");
  for (int edits = choices.ConsumeIntegralInRange(1, 4); edits > 0; --edits) {
    try {
      edit(memory, choices);
    } catch (const Error&) {  // HDF5 does not make it
    }
  }
  H5Fflush(memory, H5F_SCOPE_LOCAL);
  std::string image(static_cast<std::size_t>(std::max<ssize_t>(H5Fget_file_image(memory, nullptr, 0), 0)), '\0');
  H5Fget_file_image(memory, image.data(), image.size());
  return image;
}

bool is_hdf5_file(const uint8_t* data, size_t size) {
  constexpr std::string_view kSignature = "\x89HDF\r\n\x1a\n";
  return size >= kSignature.size() && std::memcmp(data, kSignature.data(), kSignature.size()) == 0;
}

}  // namespace nalab::fuzz
