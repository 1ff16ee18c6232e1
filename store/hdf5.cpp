#include "store/hdf5.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <numeric>

namespace nalab::store::hdf5 {

namespace {

namespace fs = std::filesystem;

/// Elements of a chunk: 1 MiB of float32, HDF5's default chunk cache.
constexpr int64_t kChunkElements = int64_t{1} << 18;
/// Higher levels compress floats hardly better and take several times as long.
constexpr unsigned kCompressionLevel = 1;
/// By how much a file in memory grows at a time.
constexpr std::size_t kMemoryIncrement = std::size_t{1} << 20;

/// HDF5 prints its errors unless told not to; the setting is per thread.
void silence() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

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

Handle open_with(const std::string& path, unsigned flags, hid_t access) {
  silence();
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
  return {H5Fopen(path.c_str(), flags, access), path + ": cannot be opened as an HDF5 file"};
}

Handle memory_access() {
  Handle access(H5Pcreate(H5P_FILE_ACCESS), "file access");
  check(H5Pset_fapl_core(access, kMemoryIncrement, /*backing_store=*/false), "file access");
  return access;
}

/// Whole leading extents of one, the rest halved until a chunk is small enough.
std::vector<hsize_t> chunk_shape(const Extents& shape) {
  std::vector<hsize_t> chunk(shape.begin(), shape.end());
  int64_t elements = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  for (hsize_t& extent : chunk) {
    while (elements > kChunkElements && extent > 1) {
      elements /= static_cast<int64_t>(extent);
      extent = (extent + 1) / 2;
      elements *= static_cast<int64_t>(extent);
    }
  }
  return chunk;
}

Handle string_type(H5T_cset_t characters) {
  Handle type(H5Tcopy(H5T_C_S1), "string type");
  check(H5Tset_size(type, H5T_VARIABLE), "string type");
  check(H5Tset_cset(type, characters), "string type");
  return type;
}

/// The only string of an attribute or dataset; read(type, to) is the HDF5 call that reads it.
template <class Read>
std::string read_string(const std::string& what, const Handle& file_type, const Handle& space, const Read& read) {
  if (H5Tget_class(file_type) != H5T_STRING || H5Sget_simple_extent_npoints(space) != 1) {
    throw Error(what + " must be one string");
  }
  if (H5Tis_variable_str(file_type) > 0) {
    const Handle type = string_type(H5Tget_cset(file_type));
    char* text = nullptr;
    check(read(type, &text), what);
    std::string result = text == nullptr ? "" : text;
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, &text);
    return result;
  }
  // One byte more than in the file, so that HDF5 can end it with a zero.
  const Handle type(H5Tcopy(file_type), what);
  std::string result(H5Tget_size(file_type) + 1, '\0');
  check(H5Tset_size(type, result.size()), what);
  check(H5Tset_strpad(type, H5T_STR_NULLTERM), what);
  check(read(type, result.data()), what);
  return result.c_str();
}

Handle scalar_space() { return {H5Screate(H5S_SCALAR), "scalar dataspace"}; }

}  // namespace

std::string shape_text(const Extents& shape) {
  std::string text = "[";
  for (int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

Handle::Handle(hid_t id, std::string_view what) : id_(id) {
  if (id < 0) fail(what);
}

void check(herr_t status, std::string_view what) {
  if (status < 0) fail(what);
}

Handle open_file(const std::string& path) { return open_with(path, H5F_ACC_RDONLY, H5P_DEFAULT); }

Handle open_in_memory(const std::string& path) { return open_with(path, H5F_ACC_RDWR, memory_access()); }

Handle create_in_memory(const std::string& path) {
  silence();
  // A name that no file has: HDF5 would read an existing file.
  return {H5Fcreate((path + " (in memory)").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, memory_access()),
          path + ": cannot be created"};
}

std::string image_of(hid_t memory_file) {
  check(H5Fflush(memory_file, H5F_SCOPE_LOCAL), "file in memory");
  const ssize_t size = H5Fget_file_image(memory_file, nullptr, 0);
  if (size < 0) fail("file in memory");
  std::string image(static_cast<std::size_t>(size), '\0');
  if (H5Fget_file_image(memory_file, image.data(), image.size()) < 0) fail("file in memory");
  return image;
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
  return {H5Dopen2(parent, name.c_str(), H5P_DEFAULT), "dataset " + name};
}

template <>
Handle value_type<std::string>() {
  return string_type(H5T_CSET_UTF8);
}
template <>
Handle value_type<int64_t>() {
  return {H5Tcopy(H5T_NATIVE_INT64), "int64"};
}
template <>
Handle value_type<float>() {
  return {H5Tcopy(H5T_NATIVE_FLOAT), "float32"};
}
template <>
Handle value_type<double>() {
  return {H5Tcopy(H5T_NATIVE_DOUBLE), "float64"};
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

template <class T>
void write_attribute(hid_t object, const std::string& name, const T& value) {
  const Handle type = value_type<T>();
  const Handle attribute(H5Acreate2(object, name.c_str(), type, scalar_space(), H5P_DEFAULT, H5P_DEFAULT),
                         "attribute " + name);
  if constexpr (std::is_same_v<T, std::string>) {
    const char* text = value.c_str();
    check(H5Awrite(attribute, type, &text), "attribute " + name);
  } else {
    check(H5Awrite(attribute, type, &value), "attribute " + name);
  }
}
template void write_attribute(hid_t, const std::string&, const std::string&);
template void write_attribute(hid_t, const std::string&, const int64_t&);
template void write_attribute(hid_t, const std::string&, const double&);

template <class T>
T read_attribute(hid_t object, const std::string& name) {
  const Handle attribute = open_attribute(object, name);
  const Handle file_type = type_of_attribute(attribute);
  const Handle space(H5Aget_space(attribute), "attribute " + name);
  if constexpr (std::is_same_v<T, std::string>) {
    return read_string("attribute " + name, file_type, space,
                       [&](hid_t type, void* to) { return H5Aread(attribute, type, to); });
  } else {
    const Handle type = value_type<T>();
    const Extents shape = extents(space);
    if (!shape.empty() || H5Sget_simple_extent_npoints(space) != 1 || H5Tget_class(file_type) != H5Tget_class(type)) {
      throw Error("attribute " + name + " is " + type_text(file_type) + " of shape " + shape_text(shape) +
                  ", must be a scalar " + type_text(type));
    }
    T value{};
    check(H5Aread(attribute, type, &value), "attribute " + name);
    return value;
  }
}
template std::string read_attribute(hid_t, const std::string&);
template int64_t read_attribute(hid_t, const std::string&);
template double read_attribute(hid_t, const std::string&);

void write_text(hid_t parent, const std::string& name, const std::string& text) {
  const Handle type = value_type<std::string>();
  const Handle dataset(H5Dcreate2(parent, name.c_str(), type, scalar_space(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                       name);
  const char* data = text.c_str();
  check(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, &data), name);
}

std::string read_text(hid_t parent, const std::string& name) {
  const Handle dataset = open_dataset(parent, name);
  return read_string("dataset " + name, {H5Dget_type(dataset), name}, {H5Dget_space(dataset), name},
                     [&](hid_t type, void* to) { return H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to); });
}

void write_tensor(hid_t parent, const std::string& name, const Extents& shape, const std::vector<float>& data) {
  const std::vector<hsize_t> size(shape.begin(), shape.end());
  const Handle space(H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr), name);
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), name);
  if (!data.empty()) {  // an empty dataset cannot be chunked
    check(H5Pset_chunk(creation, static_cast<int>(size.size()), chunk_shape(shape).data()), name);
    check(H5Pset_shuffle(creation), name);
    check(H5Pset_deflate(creation, kCompressionLevel), name);
  }
  const Handle type = value_type<float>();
  const Handle dataset(H5Dcreate2(parent, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT), name);
  if (!data.empty()) check(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data()), name);
}

Extents shape_of(hid_t dataset) { return extents(Handle(H5Dget_space(dataset), "dataset")); }

template <class T>
std::vector<T> read_values(hid_t dataset) {
  const Handle space(H5Dget_space(dataset), "dataset");
  std::vector<T> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space)));
  if (!values.empty()) {
    check(H5Dread(dataset, value_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "cannot be read");
  }
  return values;
}
template std::vector<float> read_values(hid_t);
template std::vector<double> read_values(hid_t);

Handle create_list(hid_t parent, const std::string& name, hid_t type, int64_t chunk) {
  const hsize_t none = 0;
  const hsize_t unlimited = H5S_UNLIMITED;
  const hsize_t chunk_length = static_cast<hsize_t>(chunk);
  const Handle space(H5Screate_simple(1, &none, &unlimited), name);
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), name);
  check(H5Pset_chunk(creation, 1, &chunk_length), name);
  return {H5Dcreate2(parent, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT), name};
}

int64_t length(hid_t list) {
  const Extents shape = shape_of(list);
  if (shape.size() != 1) throw Error("dataset has shape " + shape_text(shape) + ", must have one axis");
  return shape.front();
}

void append(hid_t list, hid_t type, const void* data, int64_t count) {
  if (count == 0) return;
  const hsize_t begin = static_cast<hsize_t>(length(list));
  const hsize_t added = static_cast<hsize_t>(count);
  const hsize_t end = begin + added;
  check(H5Dset_extent(list, &end), "dataset");
  const Handle all(H5Dget_space(list), "dataset");
  check(H5Sselect_hyperslab(all, H5S_SELECT_SET, &begin, nullptr, &added, nullptr), "dataset");
  const Handle piece(H5Screate_simple(1, &added, nullptr), "dataset");
  check(H5Dwrite(list, type, piece, all, H5P_DEFAULT, data), "dataset");
}

}  // namespace nalab::store::hdf5
