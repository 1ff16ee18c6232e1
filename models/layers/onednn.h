// oneDNN on the threads of nalab.
//
// Layers are cut into pieces by their shapes alone, and each piece is a primitive of oneDNN that one worker executes by
// itself. So there is a single pool of threads, which no second one disturbs, and the number of threads changes no bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/tensor/buffer.h"
#include "core/tensor/element.h"
#include "models/weights.h"

namespace nalab::models {

using dnnl::memory;

/// While it lives, oneDNN uses the calling thread alone: its primitives are made for that, and executed so.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

/// The engine, and what each worker needs of its own.
class OneDnn {
 public:
  explicit OneDnn(int workers);

  const dnnl::engine& engine() const { return engine_; }
  int workers() const { return static_cast<int>(streams_.size()); }
  const dnnl::stream& stream(int worker) const { return streams_[static_cast<std::size_t>(worker)]; }

  /// Attributes that primitives of pieces have: their scratchpad is ours.
  static dnnl::primitive_attr attributes();
  /// At least so many bytes of scratchpad for each worker.
  void reserve(std::size_t bytes);
  void* scratchpad(int worker) const {
    return const_cast<std::byte*>(scratchpads_[static_cast<std::size_t>(worker)].data());
  }

 private:
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::vector<dnnl::stream> streams_;
  std::vector<AlignedBuffer<std::byte>> scratchpads_;
};

/// What steps keep of the weights, in the formats that they need: made when steps are made, and again whenever the
/// weights change.
class Constants {
 public:
  /// float32 numbers out of the weights.
  using Make = std::function<std::vector<float>(const Weights& weights)>;

  Constants(const OneDnn& onednn, const Weights& weights) : onednn_(onednn), weights_(&weights) {}

  /// Numbers that are made in one format, as memory of another format or type.
  memory add(const Make& make, const memory::desc& given, const memory::desc& wanted);
  /// A row of numbers, [n] or [1, n]: biases, factors.
  memory row(const Make& make, int rank = 2);
  /// Makes all of them of other weights, in the same memory.
  void refresh(const Weights& weights);

 private:
  struct Entry {
    Make make;
    memory::desc given;
    memory target;
  };
  void fill(const Entry& entry) const;

  const OneDnn& onednn_;
  const Weights* weights_;
  std::vector<Entry> entries_;
};

/// A weight in the formats that primitives ask for, each made once.
class Packed {
 public:
  Packed(Constants& constants, Constants::Make make, const memory::desc& given)
      : constants_(constants), make_(std::move(make)), given_(given) {}

  const memory& as(const memory::desc& wanted);

 private:
  Constants& constants_;
  Constants::Make make_;
  memory::desc given_;
  std::vector<memory> formats_;
};

/// A primitive that workers execute at the same time, each on data of its own.
class Piece {
 public:
  Piece() = default;
  /// fixed: arguments that are the same in every call, such as weights; varying: those that a call gives.
  Piece(OneDnn& onednn, const dnnl::primitive& primitive, const memory::desc& scratchpad,
        const std::unordered_map<int, memory>& fixed, const std::unordered_map<int, memory::desc>& varying);

  /// data: the memory of each varying argument.
  void run(int worker, std::initializer_list<std::pair<int, void*>> data) const;

 private:
  const OneDnn* onednn_ = nullptr;
  dnnl::primitive primitive_;
  std::vector<std::unordered_map<int, memory>> arguments_;  ///< of each worker
};

inline memory::data_type dnnl_type(ElementType type) {
  return type == ElementType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

/// [rows, columns] with `stride` elements from row to row.
inline memory::desc matrix_desc(ElementType type, int64_t rows, int64_t columns, int64_t stride) {
  return {{rows, columns}, dnnl_type(type), memory::dims{stride, 1}};
}

}  // namespace nalab::models
