#include "store/tensor_files.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

namespace nalab::store {

namespace {

constexpr const char* kFile = "file";

std::string beside(const std::string& results_path, const std::string& name) {
  hdf5::require_link_name(name);  // no path to elsewhere
  return (std::filesystem::path(real_path(results_path)).parent_path() / name).string();
}

}  // namespace

TensorFile::TensorFile(const std::string& results_path)
    : path_(name_beside(real_path(results_path), ".tensors")),
      name_(std::filesystem::path(path_).filename().string()),
      file_(std::make_unique<hdf5::NewHdf5File>(path_)) {}

TensorFile::~TensorFile() {
  if (has_name_ && !path_.empty()) ::unlink(path_.c_str());
}

void TensorFile::add(const std::string& row_id, const StoredTensor& tensor) {
  hdf5::require_link_name(row_id);
  const bool is_new = std::ranges::find(row_ids_, row_id) == row_ids_.end();
  file_->write([&](hid_t file) {
    const hdf5::Handle group = is_new ? hdf5::create_group(file, row_id) : hdf5::open_group(file, row_id);
    hdf5::write_tensor(group, tensor.name, tensor.shape, tensor.data);
  });
  if (is_new) row_ids_.push_back(row_id);
}

void TensorFile::add(const std::string& row_id, hid_t tensors) {
  file_->write([&](hid_t file) { hdf5::copy(tensors, row_id, file, row_id); });
  row_ids_.push_back(row_id);
}

int64_t TensorFile::bytes() {
  int64_t bytes = 0;
  file_->write([&](hid_t file) { bytes = hdf5::file_bytes(file); });
  return bytes;
}

void TensorFile::copy_to(hid_t tensors) {
  file_->write([&](hid_t file) {
    for (const std::string& id : row_ids_) hdf5::copy(file, id, tensors, id);
  });
}

void TensorFile::commit() {
  file_->commit(Existing::refuse);
  has_name_ = true;
  file_.reset();
}

void TensorFile::point_from(hid_t tensors) const {
  for (const std::string& id : row_ids_) {
    hdf5::write_attribute(hdf5::create_group(tensors, id), kFile, name_);
  }
}

std::string tensor_file_of(hid_t tensors, const std::string& row_id) {
  const hdf5::Handle group = hdf5::open_group(tensors, row_id);
  return hdf5::has_attribute(group, kFile) ? hdf5::read_attribute<std::string>(group, kFile) : "";
}

bool any_outside(hid_t tensors) {
  return std::ranges::any_of(hdf5::children(tensors, H5O_TYPE_GROUP),
                             [&](const std::string& id) { return !tensor_file_of(tensors, id).empty(); });
}

hdf5::Handle open_tensors(const std::string& results_path, hid_t tensors, const std::string& row_id) {
  if (!hdf5::has_link(tensors, row_id)) return {};
  const std::string name = tensor_file_of(tensors, row_id);
  if (name.empty()) return hdf5::open_group(tensors, row_id);
  return hdf5::open_group(hdf5::open_file(beside(results_path, name)), row_id);
}

void copy_tensors(const std::string& results_path, hid_t tensors, const std::string& row_id, hid_t to) {
  hdf5::within("group tensors/" + row_id, [&] {
    const std::string name = tensor_file_of(tensors, row_id);
    if (name.empty()) return hdf5::copy(tensors, row_id, to, row_id);
    hdf5::copy(hdf5::open_file(beside(results_path, name)), row_id, to, row_id);
  });
}

std::vector<std::string> take_in(const std::string& results_path, hid_t tensors) {
  std::set<std::string> paths;
  for (const std::string& id : hdf5::children(tensors, H5O_TYPE_GROUP)) {
    const std::string name = tensor_file_of(tensors, id);
    if (name.empty()) continue;
    const std::string path = beside(results_path, name);
    hdf5::check(H5Ldelete(tensors, id.c_str(), H5P_DEFAULT), id);
    hdf5::copy(hdf5::open_file(path), id, tensors, id);
    paths.insert(path);
  }
  return {paths.begin(), paths.end()};
}

}  // namespace nalab::store
