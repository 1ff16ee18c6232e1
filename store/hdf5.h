// A small layer over the HDF5 C API: owned identifiers, one-sentence errors, files composed in memory.
//
// New files are composed in memory and written by NewFile (store/new_file.h). If the disk fills up or the process is
// killed while HDF5 changes a file, the file no longer opens; a whole image written beside the target and renamed over
// it is safe. The price is memory for the file, which is small unless tensors are kept.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace nalab::store::hdf5 {

using Extents = std::vector<int64_t>;

/// "[2, 56, 56, 3, 32]"
std::string shape_text(const Extents& shape);

/// Owns an HDF5 identifier of any kind.
class Handle {
 public:
  Handle() = default;
  /// Takes over what an HDF5 call returned. Throws Error "WHAT: HDF5's reason" if that call failed.
  Handle(hid_t id, std::string_view what);
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Handle() {
    if (id_ >= 0) H5Idec_ref(id_);
  }
  operator hid_t() const { return id_; }

 private:
  hid_t id_ = H5I_INVALID_HID;
};

/// Throws Error "WHAT: HDF5's reason" for a negative status.
void check(herr_t status, std::string_view what);

/// Calls f; an Error of it gets "WHERE: " in front.
template <class F>
decltype(auto) within(const std::string& where, F&& f) {
  try {
    return f();
  } catch (const Error& error) {
    throw Error(where + ": " + error.what());
  }
}

/// Opens a file for reading. Throws Error that says what is wrong: it is missing, a directory, not an HDF5 file or
/// truncated.
Handle open_file(const std::string& path);
/// An empty file in memory; `path` is where it will be written later.
Handle create_in_memory(const std::string& path);
/// A copy of a file in memory. Throws Error as open_file() does.
Handle open_in_memory(const std::string& path);

/// The bytes of a file in memory, for NewFile.
std::string image_of(hid_t memory_file);

/// Throws Error if the text cannot be the name of one link: if it is empty, ".", ".." or contains a slash.
void require_link_name(const std::string& name);
bool has_link(hid_t group, const std::string& name);
/// Names of the group's children of a kind (H5O_TYPE_GROUP, H5O_TYPE_DATASET): in order of creation if the group
/// recorded it, otherwise by name.
std::vector<std::string> children(hid_t group, H5O_type_t kind);
/// A new group that keeps the order in which its children are created.
Handle create_group(hid_t parent, const std::string& name);
Handle open_group(hid_t parent, const std::string& name);
Handle open_dataset(hid_t parent, const std::string& name);

/// The type of std::string (variable length, UTF-8), int64_t, float and double in memory and in new files.
template <class T>
Handle value_type();

/// "float32", "int64", "string", ...
std::string type_text(hid_t type);
Extents extents(hid_t space);
Handle type_of_attribute(hid_t attribute);

bool has_attribute(hid_t object, const std::string& name);
/// Throws Error "attribute NAME is missing".
Handle open_attribute(hid_t object, const std::string& name);
/// T: std::string, int64_t or double, scalar.
template <class T>
void write_attribute(hid_t object, const std::string& name, const T& value);
/// Throws Error if the attribute is missing or not a scalar of T's kind. Strings may have fixed or variable length.
template <class T>
T read_attribute(hid_t object, const std::string& name);

void write_text(hid_t parent, const std::string& name, const std::string& text);
std::string read_text(hid_t parent, const std::string& name);

/// Writes a float32 dataset, chunked and compressed.
void write_tensor(hid_t parent, const std::string& name, const Extents& shape, const std::vector<float>& data);
Extents shape_of(hid_t dataset);
/// The whole dataset, converted to float or double.
template <class T>
std::vector<T> read_values(hid_t dataset);

/// A new, empty, extendible, one-dimensional dataset.
Handle create_list(hid_t parent, const std::string& name, hid_t type, int64_t chunk);
int64_t length(hid_t list);
/// Adds `count` elements of a type to a list.
void append(hid_t list, hid_t type, const void* data, int64_t count);

}  // namespace nalab::store::hdf5
