#pragma once
// Sums and gathers of activations that travel in fewer bits, at a cost that is measured while they run.

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/wire_cost.hpp>
#include <tessera/comm/wire_format.hpp>

namespace tessera {
namespace detail {

/// Sends allreduce, reduce-scatter and gathered activations in `format`, everything else as it is: keys, states of a
/// softmax and choices of tokens lose nothing.
///
/// Terms are encoded once and added as floats in rank order: the same bits on every rank. A sum that was cut into
/// slices is encoded once more for its way back. So an element of a sum is off by at most the error of each term and
/// that of the sum, each bounded in wire_format.hpp.
class CompressedOperations final : public Operations {
 public:
  struct Cost {
    std::mutex mutex;
    WireError error;
  };
  CompressedOperations(std::shared_ptr<Operations> carrier, WireFormat format, std::shared_ptr<Cost> cost)
      : carrier_(std::move(carrier)), format_(format), cost_(std::move(cost)) {}

  [[nodiscard]] int rank() const override { return carrier_->rank(); }
  [[nodiscard]] int size() const override { return carrier_->size(); }
  [[nodiscard]] std::string_view name() const override { return carrier_->name(); }
  [[nodiscard]] int machine() const override { return carrier_->machine(); }
  [[nodiscard]] double timeout() const override { return carrier_->timeout(); }
  void set_timeout(double seconds) override { carrier_->set_timeout(seconds); }
  [[nodiscard]] index_t wire_bytes() const override { return carrier_->wire_bytes(); }
  [[nodiscard]] std::string report() const override {
    const std::lock_guard lock(cost_->mutex);
    return concat("sent as ", name_of(format_), " with a relative error of ", cost_->error.relative(),
                  " (root mean square, rank ", rank(), ')');
  }

  [[nodiscard]] int start_allreduce(std::span<float> inout) override {
    const auto n = static_cast<index_t>(inout.size());
    if (size() == 1 || n == 0) return forward(carrier_->start_allreduce(inout));
    const auto [id, op] = operations_.claim();
    op.floats = inout;
    const index_t whole = encoded_bytes(format_, n);
    if (is_one_move(whole, size())) {
      op.next = Next::sum;
      op.counts.assign(at(size()), whole);
      put(inout, op.sent.bytes(whole).data());
      op.carried = carrier_->start_allgather(op.sent.bytes(whole), op.received.bytes(whole * size()), op.counts);
      return id;
    }
    op.next = Next::sum_slice_and_gather;
    slice_counts(n, size(), wire_block, 1, op.floats_of);
    start_slices(op, inout);
    return id;
  }

  [[nodiscard]] int start_reduce_scatter(std::span<const float> in, std::span<float> mine,
                                         std::span<const index_t> counts) override {
    if (size() == 1 || in.empty()) return forward(carrier_->start_reduce_scatter(in, mine, counts));
    check_counts("reduce_scatter", rank(), size(), counts, static_cast<index_t>(in.size()),
                 static_cast<index_t>(mine.size()));
    const auto [id, op] = operations_.claim();
    op.next = Next::sum;
    op.floats = mine;
    op.floats_of.assign(counts.begin(), counts.end());
    start_slices(op, in);
    return id;
  }

  [[nodiscard]] int start_allgather_activations(std::span<const float> mine, std::span<float> all,
                                                std::span<const index_t> counts) override {
    check_counts("allgather", rank(), size(), counts, static_cast<index_t>(all.size()),
                 static_cast<index_t>(mine.size()));
    const auto [id, op] = operations_.claim();
    op.next = Next::decode;
    op.floats = all;
    op.floats_of.assign(counts.begin(), counts.end());
    start_gather(op, mine);
    return id;
  }

  [[nodiscard]] int start_allgather(std::span<const std::byte> mine, std::span<std::byte> all,
                                    std::span<const index_t> counts) override {
    return forward(carrier_->start_allgather(mine, all, counts));
  }
  [[nodiscard]] int start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                                   std::span<std::byte> receive, std::span<const index_t> receive_counts) override {
    return forward(carrier_->start_alltoall(send, send_counts, receive, receive_counts));
  }
  [[nodiscard]] int start_deal(std::span<const std::byte> send, std::span<const index_t> counts,
                               std::span<std::byte> receive) override {
    return forward(carrier_->start_deal(send, counts, receive));
  }
  [[nodiscard]] int start_broadcast(std::span<std::byte> data, int root) override {
    return forward(carrier_->start_broadcast(data, root));
  }
  [[nodiscard]] int start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive,
                                   int source) override {
    return forward(carrier_->start_exchange(send, dest, receive, source));
  }
  [[nodiscard]] int start_barrier() override { return forward(carrier_->start_barrier()); }

  void wait(int operation) override {
    Operation& op = operations_[operation];
    carrier_->wait(op.carried);
    switch (op.next) {
      case Next::nothing: break;
      case Next::sum: sum_encoded(format_, size(), op.received.bytes(0).data(), op.floats); break;
      case Next::sum_slice_and_gather: {
        const auto slice = op.summed.floats(op.floats_of[at(rank())]);
        sum_encoded(format_, size(), op.received.bytes(0).data(), slice);
        start_gather(op, slice);
        carrier_->wait(op.carried);
        [[fallthrough]];
      }
      case Next::decode: take_gathered(op);
    }
    operations_.release(operation);
  }

  [[nodiscard]] std::shared_ptr<Operations> split(int color, int key) override {
    return like(carrier_->split(color, key));
  }
  [[nodiscard]] std::shared_ptr<Operations> patient() override { return like(carrier_->patient()); }
  [[nodiscard]] std::shared_ptr<Operations> in_background() override {
    return std::make_shared<BackgroundOperations>(patient());
  }

 private:
  enum class Next { nothing, sum, sum_slice_and_gather, decode };
  struct Operation {
    Next next = Next::nothing;
    int carried = 0;
    std::span<float> floats;
    std::vector<index_t> floats_of, counts;
    GrowingBuffer sent, received, summed;
  };

  [[nodiscard]] std::shared_ptr<Operations> like(std::shared_ptr<Operations> carrier) const {
    return std::make_shared<CompressedOperations>(std::move(carrier), format_, cost_);
  }
  int forward(int carried) {
    const auto [id, op] = operations_.claim();
    op.next = Next::nothing, op.carried = carried;
    return id;
  }
  void put(std::span<const float> values, std::byte* to) {
    WireError error;
    encode(format_, values, to, error);
    const std::lock_guard lock(cost_->mutex);
    cost_->error.squared_error += error.squared_error;
    cost_->error.squared_values += error.squared_values;
  }
  /// counts := the encoded sizes of `floats_of`; returns their sum.
  index_t encoded_counts(const std::vector<index_t>& floats_of, std::vector<index_t>& counts) const {
    index_t total = 0;
    counts.clear();
    for (const index_t n : floats_of) {
      counts.push_back(encoded_bytes(format_, n));
      total += counts.back();
    }
    return total;
  }

  /// Each rank's slice of `terms` to that rank.
  void start_slices(Operation& op, std::span<const float> terms) {
    const std::span<std::byte> sent = op.sent.bytes(encoded_counts(op.floats_of, op.counts));
    std::byte* to = sent.data();
    for (std::size_t r = 0; r < op.counts.size(); to += op.counts[r], ++r) {
      put(terms.first(at(op.floats_of[r])), to);
      terms = terms.subspan(at(op.floats_of[r]));
    }
    op.carried = carrier_->start_deal(sent, op.counts, op.received.bytes(op.counts[at(rank())] * size()));
  }
  void start_gather(Operation& op, std::span<const float> mine) {
    const index_t total = encoded_counts(op.floats_of, op.counts);
    const auto sent = op.sent.bytes(op.counts[at(rank())]);
    put(mine, sent.data());
    op.carried = carrier_->start_allgather(sent, op.received.bytes(total), op.counts);
  }
  /// This rank's own part is decoded too: all ranks have the same bits.
  void take_gathered(Operation& op) {
    const std::byte* from = op.received.bytes(0).data();
    std::span<float> to = op.floats;
    for (std::size_t r = 0; r < op.counts.size(); ++r) {
      decode(format_, from, to.first(at(op.floats_of[r])));
      from += op.counts[r];
      to = to.subspan(at(op.floats_of[r]));
    }
  }

  std::shared_ptr<Operations> carrier_;
  WireFormat format_;
  std::shared_ptr<Cost> cost_;
  OperationSlots<Operation> operations_;
};

}  // namespace detail

/// The ranks of `comm` with sums and gathered activations in `format`; its report() says what that costs. f32: `comm`.
[[nodiscard]] inline Communicator compressed(const Communicator& comm, WireFormat format) {
  if (format == WireFormat::f32) return comm;
  return Communicator(std::make_shared<detail::CompressedOperations>(
      comm.operations(), format, std::make_shared<detail::CompressedOperations::Cost>()));
}

}  // namespace tessera
