#include "models/layers/onednn.h"

#include <omp.h>

namespace nalab::models {

OneThread::OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
OneThread::~OneThread() { omp_set_num_threads(before_); }

OneDnn::OneDnn(int workers) : scratchpads_(static_cast<std::size_t>(workers)) {
  for (int i = 0; i < workers; ++i) streams_.emplace_back(engine_);
}

dnnl::primitive_attr OneDnn::attributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

void OneDnn::reserve(std::size_t bytes) {
  for (AlignedBuffer<std::byte>& scratchpad : scratchpads_) {
    if (scratchpad.size() < static_cast<int64_t>(bytes)) {
      scratchpad = AlignedBuffer<std::byte>(static_cast<int64_t>(bytes));
    }
  }
}

memory Constants::add(const Make& make, const memory::desc& given, const memory::desc& wanted) {
  entries_.push_back({make, given, memory(wanted, onednn_.engine())});
  fill(entries_.back());
  return entries_.back().target;
}

memory Constants::row(const Make& make, int rank) {
  const auto size = static_cast<int64_t>(make(*weights_).size());
  const memory::desc desc = rank == 1 ? memory::desc({size}, memory::data_type::f32, memory::format_tag::a)
                                      : memory::desc({1, size}, memory::data_type::f32, memory::format_tag::ab);
  return add(make, desc, desc);
}

void Constants::refresh(const Weights& weights) {
  weights_ = &weights;
  for (const Entry& entry : entries_) fill(entry);
}

void Constants::fill(const Entry& entry) const {
  std::vector<float> values = entry.make(*weights_);
  memory source(entry.given, onednn_.engine(), values.data());
  memory target = entry.target;
  dnnl::stream stream(onednn_.engine());
  dnnl::reorder(source, target).execute(stream, source, target);
  stream.wait();
}

const memory& Packed::as(const memory::desc& wanted) {
  for (const memory& format : formats_) {
    if (format.get_desc() == wanted) return format;
  }
  return formats_.emplace_back(constants_.add(make_, given_, wanted));
}

Piece::Piece(OneDnn& onednn, const dnnl::primitive& primitive, const memory::desc& scratchpad,
             const std::unordered_map<int, memory>& fixed, const std::unordered_map<int, memory::desc>& varying)
    : onednn_(&onednn), primitive_(primitive) {
  onednn.reserve(scratchpad.get_size());
  for (int worker = 0; worker < onednn.workers(); ++worker) {
    std::unordered_map<int, memory>& arguments = arguments_.emplace_back(fixed);
    for (const auto& [argument, desc] : varying) arguments.emplace(argument, memory(desc, onednn.engine(), nullptr));
    arguments.emplace(DNNL_ARG_SCRATCHPAD, memory(scratchpad, onednn.engine(), nullptr));
  }
}

void Piece::run(int worker, std::initializer_list<std::pair<int, void*>> data) const {
  const OneThread here;
  // Memory objects are handles: this one is the worker's alone, so that changing what it points to disturbs nobody.
  const std::unordered_map<int, memory>& arguments = arguments_[static_cast<std::size_t>(worker)];
  for (const auto& [argument, pointer] : data) {
    if (const auto found = arguments.find(argument); found != arguments.end()) found->second.set_data_handle(pointer);
  }
  arguments.at(DNNL_ARG_SCRATCHPAD).set_data_handle(onednn_->scratchpad(worker));
  primitive_.execute(onednn_->stream(worker), arguments);
}

}  // namespace nalab::models
