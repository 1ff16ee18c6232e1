// Lists of structs as compound datasets: each field that S::visit_fields shows is a member.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/error.h"
#include "store/hdf5.h"

namespace nalab::store {

inline constexpr int64_t kRowsPerChunk = 64;
/// Rows that are read at a time.
inline constexpr int64_t kRowsPerRead = 1024;

/// Fields and attributes that files of earlier builds lack; they are read as 0 or "".
inline constexpr std::array<std::string_view, 26> kLaterFields{
    "position",         "packing_seconds",     "arithmetic",       "tiling",       "backward_arithmetic",
    "backward_tiling",  "relative_bias",       "stopped_by",       "cpus_others",  "cpus_stolen",
    "cpus_throttled",   "peak_before",         "peak_after",       "not_measured", "memory_limit_bytes",
    "hardware_threads", "cpu_quota",           "load_average",     "device",       "gpu",
    "gpu_driver",       "gpu_multiprocessors", "gpu_memory_bytes", "gpu_clock",    "gpu_memory_clock",
    "gpu_power_limit"};
inline bool is_later_field(std::string_view name) {
  return std::ranges::find(kLaterFields, name) != kLaterFields.end();
}

/// A field of a struct in memory: each one takes eight bytes.
union Slot {
  const char* text;
  int64_t integer;
  double number;

  void set(const std::string& value) { text = value.c_str(); }
  void set(int64_t value) { integer = value; }
  void set(double value) { number = value; }
  void get(std::string& value) const { value = text == nullptr ? "" : text; }
  void get(int64_t& value) const { value = integer; }
  void get(double& value) const { value = number; }
};

template <class R>
std::size_t field_count() {
  std::size_t count = 0;
  const R none;
  R::visit_fields(none, [&](const char*, const auto&, const char*) { ++count; });
  return count;
}

/// The compound type of a struct, in memory and in the file: its fields in the order of their visit.
template <class R>
hdf5::Handle compound_type() {
  hdf5::Handle type(H5Tcreate(H5T_COMPOUND, field_count<R>() * sizeof(Slot)), "compound type");
  std::size_t offset = 0;
  const R none;
  R::visit_fields(none, [&](const char* name, const auto& field, const char*) {
    hdf5::check(H5Tinsert(type, name, offset, hdf5::value_type<std::decay_t<decltype(field)>>()), name);
    offset += sizeof(Slot);
  });
  return type;
}

/// A new, empty list of compounds, with the units of their fields.
template <class R>
void create_compounds(hid_t file, const char* name) {
  const hdf5::Handle list = hdf5::create_list(file, name, compound_type<R>(), kRowsPerChunk);
  const R none;
  R::visit_fields(none, [&](const char* field, const auto&, const std::string& unit) {
    if (!unit.empty()) hdf5::write_attribute(list, std::string("unit.") + field, unit);
  });
}

/// Adds to such a list.
template <class R>
void append_compounds(hid_t file, const char* name, std::span<const R> rows) {
  std::vector<Slot> slots;
  for (const R& row : rows) {
    R::visit_fields(row, [&](const char*, const auto& field, const char*) { slots.emplace_back().set(field); });
  }
  hdf5::append(hdf5::open_dataset(file, name), compound_type<R>(), slots.data(), static_cast<int64_t>(rows.size()));
}

/// Gives HDF5 memory for texts: in all no more than the file has bytes, since each has its own place there.
class TextMemory {
 public:
  explicit TextMemory(int64_t file_bytes) : left_(static_cast<std::size_t>(file_bytes)) {
    transfer_ = {H5Pcreate(H5P_DATASET_XFER), "memory for texts"};
    hdf5::check(H5Pset_vlen_mem_manager(transfer_, take, this, give_back, nullptr), "memory for texts");
  }
  TextMemory(const TextMemory&) = delete;
  TextMemory& operator=(const TextMemory&) = delete;

  hid_t transfer() const { return transfer_; }

 private:
  static void* take(std::size_t bytes, void* self) {
    std::size_t& left = static_cast<TextMemory*>(self)->left_;
    if (bytes > left) return nullptr;
    left -= bytes;
    return std::malloc(bytes);
  }
  static void give_back(void* text, void*) { std::free(text); }

  std::size_t left_;
  hdf5::Handle transfer_;
};

/// Throws Error that names the dataset, and the field if one is missing.
template <class R>
void require_fields(hid_t dataset, const char* name) {
  const std::string what = std::string("dataset ") + name;
  const hdf5::Handle file_type(H5Dget_type(dataset), name);
  if (H5Tget_class(file_type) != H5T_COMPOUND) throw Error(what + " must be a compound");
  const R none;
  R::visit_fields(none, [&](const char* field, const auto&, const char*) {
    if (H5Tget_member_index(file_type, field) >= 0 || is_later_field(field)) return;
    throw Error(what + " has no field " + field);
  });
}

/// The whole list. Throws Error that names the dataset, and the field if one is missing. Each element is given to
/// require_plausible(), which throws Error if no run wrote it, before memory is asked for more: a file may claim a
/// length that it does not have.
template <class R, class Require>
std::vector<R> read_compounds(hid_t file, const char* name, const Require& require_plausible) {
  const hdf5::Handle dataset = hdf5::open_dataset(file, name);
  require_fields<R>(dataset, name);
  const hdf5::Handle type = compound_type<R>();
  const TextMemory texts(hdf5::file_bytes(file));
  const int64_t length = hdf5::length(dataset);
  std::vector<R> rows;
  while (std::ssize(rows) < length) {
    const int64_t count = std::min(kRowsPerRead, length - std::ssize(rows));
    std::vector<Slot> slots(static_cast<std::size_t>(count) * field_count<R>());
    hdf5::within(std::string("dataset ") + name,
                 [&] { hdf5::read_part(dataset, std::ssize(rows), count, type, slots.data(), texts.transfer()); });
    const Slot* slot = slots.data();
    for (int64_t i = 0; i < count; ++i) {
      R::visit_fields(rows.emplace_back(), [&](const char*, auto& field, const char*) { (slot++)->get(field); });
    }
    const hsize_t read = static_cast<hsize_t>(count);
    H5Dvlen_reclaim(type, hdf5::Handle(H5Screate_simple(1, &read, nullptr), name), texts.transfer(), slots.data());
    std::for_each(rows.end() - count, rows.end(), require_plausible);
  }
  return rows;
}

/// Whether the file's list has a field: those of earlier builds lack some.
inline bool has_field(hid_t file, const char* name, const char* field) {
  const hdf5::Handle type(H5Dget_type(hdf5::open_dataset(file, name)), name);
  return H5Tget_member_index(type, field) >= 0;
}

}  // namespace nalab::store
