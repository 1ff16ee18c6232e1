// Attributes, texts, tensors and lists of HDF5 files.
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "store/damage.h"
#include "store/hdf5.h"

namespace nalab::store::hdf5 {

namespace {

/// Elements of a chunk: 1 MiB of float32, HDF5's default chunk cache.
constexpr int64_t kChunkElements = int64_t{1} << 18;
/// Higher levels compress floats hardly better and take several times as long.
constexpr unsigned kCompressionLevel = 1;

int64_t memory_bytes() { return int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE); }

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

/// The only string of an attribute or dataset, of at most some bytes; read(type, to) is the HDF5 call that reads it.
template <class Read>
std::string read_string(const std::string& what, int64_t most_bytes, const Handle& file_type, const Handle& space,
                        const Read& read) {
  if (H5Tget_class(file_type) != H5T_STRING || H5Sget_simple_extent_npoints(space) != 1) {
    throw Error(what + " must be one string");
  }
  if (H5Tis_variable_str(file_type) > 0) {
    const Handle type = string_type(H5Tget_cset(file_type));
    char* text = nullptr;
    const ReadingTexts reading;
    check(read(type, &text), what);
    std::string result = text == nullptr ? "" : text;
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, &text);
    return result;
  }
  const std::size_t size = H5Tget_size(file_type);
  if (size > static_cast<std::size_t>(most_bytes)) {
    throw Error(what + " has " + std::to_string(size) + " bytes, more than the file");
  }
  // One byte more than in the file, so that HDF5 can end it with a zero.
  const Handle type(H5Tcopy(file_type), what);
  std::string result(size + 1, '\0');
  check(H5Tset_size(type, result.size()), what);
  check(H5Tset_strpad(type, H5T_STR_NULLTERM), what);
  check(read(type, result.data()), what);
  return result.c_str();
}

Handle scalar_space() { return {H5Screate(H5S_SCALAR), "scalar dataspace"}; }

}  // namespace

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
    return read_string("attribute " + name, file_bytes(object), file_type, space,
                       [&](hid_t type, void* to) { return H5Aread(attribute, type, to); });
  } else {
    const Handle type = value_type<T>();
    const Extents shape = extents(space);
    const H5T_class_t kind = H5Tget_class(file_type);
    const bool fits = kind == H5T_INTEGER || (std::is_same_v<T, double> && kind == H5T_FLOAT);
    if (!shape.empty() || H5Sget_simple_extent_npoints(space) != 1 || !fits) {
      throw Error("attribute " + name + " is " + type_text(file_type) + " of shape " + shape_text(shape) +
                  ", must be a scalar " + (std::is_same_v<T, double> ? "number" : "integer"));
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
  return read_string("dataset " + name, file_bytes(dataset), {H5Dget_type(dataset), name},
                     {H5Dget_space(dataset), name},
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
  const Extents shape = extents(space);
  const int64_t bytes = bytes_of(shape, sizeof(T));
  if (bytes > memory_bytes()) {
    throw Error("its shape " + shape_text(shape) + " needs more memory than the machine has");
  }
  std::vector<T> values(H5Sget_simple_extent_type(space) == H5S_NULL ? 0 : static_cast<std::size_t>(bytes) / sizeof(T));
  if (!values.empty()) {
    check(H5Dread(dataset, value_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "cannot be read");
  }
  return values;
}
template std::vector<float> read_values(hid_t);
template std::vector<double> read_values(hid_t);

void read_part(hid_t list, int64_t begin, int64_t count, hid_t type, void* to, hid_t transfer) {
  const hsize_t first = static_cast<hsize_t>(begin);
  const hsize_t taken = static_cast<hsize_t>(count);
  const Handle all(H5Dget_space(list), "dataset");
  check(H5Sselect_hyperslab(all, H5S_SELECT_SET, &first, nullptr, &taken, nullptr), "dataset");
  const Handle piece(H5Screate_simple(1, &taken, nullptr), "dataset");
  const ReadingTexts reading;
  check(H5Dread(list, type, piece, all, transfer, to), "cannot be read");
}

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
