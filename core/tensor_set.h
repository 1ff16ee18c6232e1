// Owning tensors of a problem, by the list.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tensors.h"

namespace nalab {

/// The tensors of a pass of a valid problem, contiguous and uninitialised.
class TensorSet {
 public:
  struct Entry {
    TensorInfo info;
    Tensor tensor;
  };

  TensorSet() = default;
  /// Element types are those of the list. Throws std::bad_alloc if allocation fails.
  TensorSet(const Problem& problem, Pass pass) : TensorSet(problem, pass, [](Role) { return true; }) {}
  /// Those of the roles that are wanted.
  TensorSet(const Problem& problem, Pass pass, bool (*wanted)(Role));

  std::span<Entry> entries() { return entries_; }
  std::span<const Entry> entries() const { return entries_; }
  /// The tensor of a name; null if the set has none.
  const Tensor* find(std::string_view name) const;
  /// Its view; absent if the set has none.
  TensorView view(std::string_view name);
  ConstTensorView view(std::string_view name) const;

  /// Views of the tensors in the set; those of others are absent.
  Inputs inputs() const { return bundle_of<Inputs>(*this); }
  Outputs outputs() { return bundle_of<Outputs>(*this); }
  SavedForBackward saved() const { return bundle_of<SavedForBackward>(*this); }
  Gradients gradients() { return bundle_of<Gradients>(*this); }

 private:
  /// Set: TensorSet, const or not.
  template <class Bundle, class Set>
  static Bundle bundle_of(Set& set) {
    Bundle bundle;
    visit_tensors(set.problem_, bundle, [&set](const TensorInfo& info, auto& view) {
      for (auto& entry : set.entries_) {
        if (entry.info.name == info.name) view = entry.tensor.view();
      }
    });
    return bundle;
  }

  Problem problem_;
  std::vector<Entry> entries_;
};

/// The elements of a contiguous tensor, in order, as float.
std::vector<float> to_floats(const Tensor& tensor);

}  // namespace nalab
