// Where the tensors of rows are kept: in the results file, in /tensors/<row id>; or, where it would grow too large to
// be copied for each batch of rows, in tensor files beside it until the run ends. Then the group /tensors/<row id> is
// empty and has an attribute `file`, the name of the tensor file whose group /<row id> has the tensors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "store/hdf5.h"
#include "store/new_hdf5_file.h"
#include "store/schema.h"

namespace nalab::store {

/// A tensor file that is being written. Nothing is left of it unless it is to stay.
class TensorFile {
 public:
  /// To stand beside a results file that exists.
  explicit TensorFile(const std::string& results_path);
  ~TensorFile();
  TensorFile(const TensorFile&) = delete;
  TensorFile& operator=(const TensorFile&) = delete;

  /// Throws Error if the id cannot be the name of a group, or if the tensor cannot be written.
  void add(const std::string& row_id, const StoredTensor& tensor);
  /// The tensors of a row from /tensors of a results file.
  void add(const std::string& row_id, hid_t tensors);

  int64_t bytes();
  /// Copies all to /tensors of a results file.
  void copy_to(hid_t tensors);
  /// Takes its name, and points to it from /tensors of a results file. No more can be added.
  void commit();
  void point_from(hid_t tensors) const;
  /// Keeps the file: the results file that points to it is there.
  void stay() { path_.clear(); }

 private:
  std::string path_;  ///< empty: not to be removed
  std::string name_;
  std::unique_ptr<hdf5::NewHdf5File> file_;  ///< null once it has its name
  bool has_name_ = false;
  std::vector<std::string> row_ids_;
};

/// The group with the tensors of a row of a results file. An invalid handle if there are none. Throws Error that names
/// the tensor file if it cannot be read.
hdf5::Handle open_tensors(const std::string& results_path, hid_t tensors, const std::string& row_id);

/// The tensor file that /tensors/<row id> points to; empty if it does not.
std::string tensor_file_of(hid_t tensors, const std::string& row_id);

/// Whether tensors of any row lie in tensor files.
bool any_outside(hid_t tensors);

/// Copies the tensors of a row from /tensors of a results file to that of another.
void copy_tensors(const std::string& results_path, hid_t tensors, const std::string& row_id, hid_t to);

/// Takes all tensors that lie in tensor files into the results file that has `tensors`. Returns the paths of those
/// files.
std::vector<std::string> take_in(const std::string& results_path, hid_t tensors);

}  // namespace nalab::store
