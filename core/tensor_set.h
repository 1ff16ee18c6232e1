// Owning tensors of a problem, by the list.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tensors.h"

namespace nalab {

/// The tensors of some roles that a valid problem has, contiguous and uninitialised.
class TensorSet {
 public:
  struct Entry {
    TensorInfo info;
    Tensor tensor;
  };

  TensorSet() = default;
  /// Element types are those of the list. Throws std::bad_alloc if allocation fails.
  TensorSet(const Problem& problem, std::initializer_list<Role> roles);

  std::span<Entry> entries() { return entries_; }
  std::span<const Entry> entries() const { return entries_; }
  /// The tensor of a name; null if the set has none.
  const Tensor* find(std::string_view name) const;

  /// Views of the tensors in the set; those of others are absent.
  Inputs inputs() const { return const_bundle<Inputs>(); }
  Outputs outputs() { return bundle<Outputs>(); }
  SavedForBackward saved() const { return const_bundle<SavedForBackward>(); }
  Gradients gradients() { return bundle<Gradients>(); }

 private:
  Tensor* find(std::string_view name);

  template <class Bundle>
  Bundle bundle() {
    Bundle bundle;
    visit_tensors(problem_, bundle, [this](const TensorInfo& info, auto& view) {
      if (Tensor* tensor = find(info.name)) view = tensor->view();
    });
    return bundle;
  }
  template <class Bundle>
  Bundle const_bundle() const {
    Bundle bundle;
    visit_tensors(problem_, bundle, [this](const TensorInfo& info, auto& view) {
      if (const Tensor* tensor = find(info.name)) view = tensor->view();
    });
    return bundle;
  }

  Problem problem_;
  std::vector<Entry> entries_;
};

/// The elements of a contiguous tensor, in order, as float.
std::vector<float> to_floats(const Tensor& tensor);

}  // namespace nalab
