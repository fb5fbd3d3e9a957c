#pragma once
// Linear layers whose weight is split over ranks, in the two ways that follow one another without a word in between
// (Megatron-LM, arXiv:1909.08053): the first by its outputs, the second by its inputs, and one sum after it.

#include <array>

#include <tessera/comm/communicator.hpp>
#include <tessera/kernels/gemm.hpp>

namespace tessera {

/// y = x weight^T + bias with the outputs split over ranks: every rank has all of x and gets its columns of y. Nothing
/// is sent. The weight [out, in] is the whole one, read in place; it and the bias [out] (or nullptr) outlive the layer.
template <SimdBackend Backend = XsimdBackend<>>
class ColumnParallelLinear {
 public:
  /// Cuts fall on multiples of `grain` outputs.
  ColumnParallelLinear(const Communicator& comm, const WeightView& weight, const float* bias = nullptr,
                       index_t grain = 1)
      : outputs_(partition(weight.rows, comm.size(), comm.rank(), grain)),
        weight_(weight.row_range(outputs_)),
        bias_(bias == nullptr ? nullptr : bias + outputs_.begin) {}

  /// This rank's columns of y.
  [[nodiscard]] Range outputs() const { return outputs_; }

  /// Collective among the workers. x [T, in], y [T, outputs().size()]. Throws Error for other shapes.
  void operator()(Worker& worker, ConstActivations x, Activations y) const {
    project<Backend>(worker, x, std::array{Projection{weight_, bias_, y}});
  }

 private:
  Range outputs_;
  WeightView weight_;
  const float* bias_;
};

/// y = x weight^T with the inputs split over ranks: every rank brings its columns of x, and all get the same y, summed
/// in rank order by one allreduce. Weight as above.
template <SimdBackend Backend = XsimdBackend<>>
class RowParallelLinear {
 public:
  RowParallelLinear(Communicator comm, const WeightView& weight, index_t grain = 1)
      : comm_(std::move(comm)),
        inputs_(partition(weight.cols, comm_.size(), comm_.rank(), grain)),
        weight_(weight.col_range(inputs_)) {}

  /// This rank's columns of x.
  [[nodiscard]] Range inputs() const { return inputs_; }

  /// Collective among the workers and the ranks. x [T, inputs().size()], y [T, out] without gaps between its rows.
  /// Throws Error for other shapes, and what the communicator throws.
  void operator()(Worker& worker, ConstActivations x, Activations y) {
    require(y.stride == y.cols, "row-parallel linear: expected rows of y without gaps, found ", y.cols,
            " columns at a stride of ", y.stride);
    project<Backend>(worker, x, std::array{Projection{weight_, nullptr, y}});
    worker.once([&] { comm_.allreduce({y.data, static_cast<std::size_t>(y.rows * y.cols)}); });
  }

 private:
  Communicator comm_;
  Range inputs_;
  WeightView weight_;
};

}  // namespace tessera
