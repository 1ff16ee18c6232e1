#include "store/hdf5.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>

#include "store/damage.h"
#include "store/file_driver.h"

namespace nalab::store::hdf5 {

namespace {

namespace fs = std::filesystem;

/// Chunks up to this size may be larger than their dataset. HDF5 takes a whole chunk into memory.
constexpr int64_t kPlausibleChunkBytes = int64_t{64} << 20;

/// The most specific message of HDF5's error stack.
std::string reason() {
  std::string text;
  const auto take_first = [](unsigned n, const H5E_error2_t* error, void* to) -> herr_t {
    if (n == 0 && error->desc != nullptr) *static_cast<std::string*>(to) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, &text);
  return text.empty() ? "HDF5 gives no reason" : text;
}

[[noreturn]] void fail(std::string_view what) { throw Error(std::string(what) + ": " + reason()); }

void require_plausible_storage(hid_t dataset, const std::string& name) {
  const Handle creation(H5Dget_create_plist(dataset), name);
  if (H5Pget_external_count(creation) != 0) throw Error("dataset " + name + " lies in files beside the HDF5 file");
  if (H5Pget_layout(creation) != H5D_CHUNKED) return;
  const Extents shape = shape_of(dataset);
  std::vector<hsize_t> chunk(shape.size());
  check(H5Pget_chunk(creation, static_cast<int>(chunk.size()), chunk.data()), name);
  const auto element = static_cast<int64_t>(H5Tget_size(Handle(H5Dget_type(dataset), name)));
  const int64_t bytes = bytes_of({chunk.begin(), chunk.end()}, element);
  if (bytes > kPlausibleChunkBytes && bytes > bytes_of(shape, element)) {
    throw Error("dataset " + name + " has chunks of " + std::to_string(bytes) + " bytes, larger than the dataset");
  }
}

}  // namespace

std::string shape_text(const Extents& shape) {
  std::string text = "[";
  for (int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

int64_t bytes_of(const Extents& shape, int64_t element_bytes) {
  int64_t bytes = element_bytes;
  for (const int64_t extent : shape) {
    if (extent == 0) return 0;
    if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes)) bytes = std::numeric_limits<int64_t>::max();
  }
  return bytes;
}

Handle::Handle(hid_t id, std::string_view what) : id_(id) {
  if (id < 0) fail(what);
}

void check(herr_t status, std::string_view what) {
  if (status < 0) fail(what);
}

void silence() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

Handle open_file(const std::string& path) {
  silence();
  remember_opened(path);
  if (path.empty()) throw Error("the name of the file to read is empty");
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (fs::is_directory(status)) throw Error(path + ": is a directory, must be an HDF5 file");
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw Error(path + ": is not a regular file, must be an HDF5 file");
  if (::access(path.c_str(), R_OK) != 0) throw Error(path + ": cannot be read: " + std::strerror(errno));
  const htri_t is_hdf5 = H5Fis_hdf5(path.c_str());
  if (is_hdf5 < 0) fail(path + ": cannot be read");
  if (is_hdf5 == 0) throw Error(path + ": is not an HDF5 file");
  return {H5Fopen(path.c_str(), H5F_ACC_RDONLY, read_access()), path + ": cannot be opened as an HDF5 file"};
}

void require_link_name(const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
    throw Error("name '" + name +
                "' must not be empty, '.' or '..' and must not contain a slash, to name an HDF5 group");
  }
}

bool has_link(hid_t group, const std::string& name) { return H5Lexists(group, name.c_str(), H5P_DEFAULT) > 0; }

std::vector<std::string> children(hid_t group, H5O_type_t kind) {
  const Handle creation(H5Iget_type(group) == H5I_GROUP ? H5Gget_create_plist(group) : H5Fget_create_plist(group),
                        "group");
  unsigned order = 0;
  check(H5Pget_link_creation_order(creation, &order), "group");
  std::vector<std::string> names;
  const auto add = [](hid_t, const char* name, const H5L_info_t*, void* to) -> herr_t {
    static_cast<std::vector<std::string>*>(to)->emplace_back(name);
    return 0;
  };
  const H5_index_t index = (order & H5P_CRT_ORDER_TRACKED) != 0 ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME;
  check(H5Literate(group, index, H5_ITER_INC, nullptr, add, &names), "links");
  std::erase_if(names, [&](const std::string& name) {
    H5O_info_t info;
    check(H5Oget_info_by_name(group, name.c_str(), &info, H5P_DEFAULT), "link " + name);
    return info.type != kind;
  });
  return names;
}

Handle create_group(hid_t parent, const std::string& name) {
  const Handle creation(H5Pcreate(H5P_GROUP_CREATE), name);
  check(H5Pset_link_creation_order(creation, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED), name);
  return {H5Gcreate2(parent, name.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT), "group " + name};
}

Handle open_group(hid_t parent, const std::string& name) {
  if (!has_link(parent, name)) throw Error("group " + name + " is missing");
  return {H5Gopen2(parent, name.c_str(), H5P_DEFAULT), "group " + name};
}

Handle open_dataset(hid_t parent, const std::string& name) {
  if (!has_link(parent, name)) throw Error("dataset " + name + " is missing");
  Handle dataset(H5Dopen2(parent, name.c_str(), H5P_DEFAULT), "dataset " + name);
  require_plausible_storage(dataset, name);
  return dataset;
}

void copy(hid_t from, const std::string& name, hid_t to, const std::string& new_name) {
  check(H5Ocopy(from, name.c_str(), to, new_name.c_str(), H5P_DEFAULT, H5P_DEFAULT), name + " cannot be copied");
}

int64_t file_bytes(hid_t object) {
  const Handle file(H5Iget_file_id(object), "file");
  hsize_t bytes = 0;
  check(H5Fget_filesize(file, &bytes), "size of the file");
  return static_cast<int64_t>(bytes);
}

std::string type_text(hid_t type) {
  const std::string bits = std::to_string(8 * H5Tget_size(type));
  switch (H5Tget_class(type)) {
    case H5T_FLOAT:
      return "float" + bits;
    case H5T_INTEGER:
      return (H5Tget_sign(type) == H5T_SGN_NONE ? "uint" : "int") + bits;
    case H5T_STRING:
      return "string";
    case H5T_ENUM:
      return "enumeration";
    case H5T_COMPOUND:
      return "compound";
    default:
      return "another type";
  }
}

Extents extents(hid_t space) {
  const int rank = H5Sget_simple_extent_ndims(space);
  check(rank, "dataspace");
  std::vector<hsize_t> shape(static_cast<std::size_t>(rank));
  check(H5Sget_simple_extent_dims(space, shape.data(), nullptr), "dataspace");
  return {shape.begin(), shape.end()};
}

Handle type_of_attribute(hid_t attribute) { return {H5Aget_type(attribute), "attribute type"}; }

bool has_attribute(hid_t object, const std::string& name) { return H5Aexists(object, name.c_str()) > 0; }

Handle open_attribute(hid_t object, const std::string& name) {
  if (!has_attribute(object, name)) throw Error("attribute " + name + " is missing");
  return {H5Aopen(object, name.c_str(), H5P_DEFAULT), "attribute " + name};
}

}  // namespace nalab::store::hdf5
