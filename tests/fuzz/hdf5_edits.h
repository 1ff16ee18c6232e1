// HDF5 files that are sound as such but hold what nalab does not expect. Bytes changed at random mostly give files that
// HDF5 itself refuses; edits of a good file get further.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <string>

namespace nalab::fuzz {

/// The bytes of a file after a few edits: links, attributes and datasets removed, or put in place of others with any
/// type, shape and values. An edit that HDF5 refuses is left out.
std::string edited(const std::string& file, FuzzedDataProvider& choices);

/// Whether an input is a file itself rather than choices.
bool is_hdf5_file(const uint8_t* data, size_t size);

}  // namespace nalab::fuzz
