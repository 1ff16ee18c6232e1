// A small layer over the HDF5 C API: owned identifiers, one-sentence errors, and no memory for what a file only claims.
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
/// Bytes of elements of a size in that shape; the greatest number if they are more.
int64_t bytes_of(const Extents& shape, int64_t element_bytes);

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
  /// Gives the identifier away.
  hid_t release() { return std::exchange(id_, H5I_INVALID_HID); }

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
/// HDF5 prints its errors unless told not to; the setting is per thread.
void silence();

/// Throws Error if the text cannot be the name of one link: if it is empty, ".", ".." or contains a slash.
void require_link_name(const std::string& name);
bool has_link(hid_t group, const std::string& name);
/// Names of the group's children of a kind (H5O_TYPE_GROUP, H5O_TYPE_DATASET): in order of creation if the group
/// recorded it, otherwise by name.
std::vector<std::string> children(hid_t group, H5O_type_t kind);
/// A new group that keeps the order in which its children are created.
Handle create_group(hid_t parent, const std::string& name);
Handle open_group(hid_t parent, const std::string& name);
/// Throws Error if it is missing, lies in files beside the HDF5 file, or has chunks so large that no writer made them.
Handle open_dataset(hid_t parent, const std::string& name);
/// Copies a group or dataset, with all that is in it, from one file into another.
void copy(hid_t from, const std::string& name, hid_t to, const std::string& new_name);

/// The type of std::string (variable length, UTF-8), int64_t, float and double in memory and in new files.
template <class T>
Handle value_type();

/// Bytes of the file that an object is in: a claim of more of what files store as it is cannot be true.
int64_t file_bytes(hid_t object);

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
/// Throws Error if the attribute is missing or not a scalar of T's kind; an integer is a double too. Strings may have
/// fixed or variable length.
template <class T>
T read_attribute(hid_t object, const std::string& name);

void write_text(hid_t parent, const std::string& name, const std::string& text);
std::string read_text(hid_t parent, const std::string& name);

/// Writes a float32 dataset, chunked and compressed.
void write_tensor(hid_t parent, const std::string& name, const Extents& shape, const std::vector<float>& data);
Extents shape_of(hid_t dataset);
/// The whole dataset, converted to float or double. Throws Error if that needs more memory than the machine has.
template <class T>
std::vector<T> read_values(hid_t dataset);
/// `count` elements of a list, converted to a type. Throws Error if they cannot be read.
void read_part(hid_t list, int64_t begin, int64_t count, hid_t type, void* to, hid_t transfer = H5P_DEFAULT);

/// A new, empty, extendible, one-dimensional dataset.
Handle create_list(hid_t parent, const std::string& name, hid_t type, int64_t chunk);
int64_t length(hid_t list);
/// Adds `count` elements of a type to a list.
void append(hid_t list, hid_t type, const void* data, int64_t count);

}  // namespace nalab::store::hdf5
