#pragma once
// Operations on a thread of their own: what is started goes on while the starting thread computes.

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <tessera/comm/operations.hpp>

namespace tessera::detail {

/// Hands every operation to one thread, which runs them one after the other in the order of the starts: the same order
/// on every rank, whatever the timing. Nobody else may use `operations`.
///
/// The thread sleeps while there is nothing to do; `operations` should be patient (PatientCollectives), for the cores
/// are busy with something else. Nothing is allocated once as many operations have been under way as ever will be.
class BackgroundOperations final : public Operations {
 public:
  explicit BackgroundOperations(std::shared_ptr<Operations> operations)
      : operations_(std::move(operations)), wire_bytes_(operations_->wire_bytes()), thread_([this] { work(); }) {}
  BackgroundOperations(const BackgroundOperations&) = delete;
  BackgroundOperations& operator=(const BackgroundOperations&) = delete;
  ~BackgroundOperations() override {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  [[nodiscard]] int rank() const override { return operations_->rank(); }
  [[nodiscard]] int size() const override { return operations_->size(); }
  [[nodiscard]] std::string_view name() const override { return operations_->name(); }
  [[nodiscard]] int machine() const override { return operations_->machine(); }
  [[nodiscard]] double timeout() const override { return operations_->timeout(); }
  void set_timeout(double seconds) override { operations_->set_timeout(seconds); }
  /// Of the operations that have been waited for.
  [[nodiscard]] index_t wire_bytes() const override { return wire_bytes_; }

  [[nodiscard]] int start_allreduce(std::span<float> inout) override {
    return enqueue(Collective::allreduce, [&](Task& task) { task.receive_floats = inout; });
  }
  [[nodiscard]] int start_reduce_scatter(std::span<const float> in, std::span<float> mine,
                                         std::span<const index_t> counts) override {
    return enqueue(Collective::reduce_scatter, [&](Task& task) {
      task.send_floats = in, task.receive_floats = mine;
      task.send_counts.assign(counts.begin(), counts.end());
    });
  }
  [[nodiscard]] int start_allgather(std::span<const std::byte> mine, std::span<std::byte> all,
                                    std::span<const index_t> counts) override {
    return enqueue(Collective::allgather, [&](Task& task) {
      task.send = mine, task.receive = all;
      task.receive_counts.assign(counts.begin(), counts.end());
    });
  }
  [[nodiscard]] int start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                                   std::span<std::byte> receive, std::span<const index_t> receive_counts) override {
    return enqueue(Collective::alltoall, [&](Task& task) {
      task.send = send, task.receive = receive;
      task.send_counts.assign(send_counts.begin(), send_counts.end());
      task.receive_counts.assign(receive_counts.begin(), receive_counts.end());
    });
  }
  [[nodiscard]] int start_deal(std::span<const std::byte> send, std::span<const index_t> counts,
                               std::span<std::byte> receive) override {
    return enqueue(Collective::deal, [&](Task& task) {
      task.send = send, task.receive = receive;
      task.send_counts.assign(counts.begin(), counts.end());
    });
  }
  [[nodiscard]] int start_broadcast(std::span<std::byte> data, int root) override {
    return enqueue(Collective::broadcast, [&](Task& task) { task.receive = data, task.source = root; });
  }
  [[nodiscard]] int start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive,
                                   int source) override {
    return enqueue(Collective::exchange, [&](Task& task) {
      task.send = send, task.receive = receive, task.dest = dest, task.source = source;
    });
  }
  [[nodiscard]] int start_barrier() override {
    return enqueue(Collective::barrier, [](Task&) {});
  }

  void wait(int operation) override {
    std::unique_lock lock(mutex_);
    Task& task = tasks_[static_cast<std::size_t>(operation)];
    changed_.wait(lock, [&] { return task.done; });
    wire_bytes_ += task.wire_bytes;
    task.busy = false;
    if (const std::exception_ptr fault = std::exchange(task.fault, nullptr)) std::rethrow_exception(fault);
  }

  /// The thread is idle: everything that was started has been waited for.
  [[nodiscard]] std::shared_ptr<Operations> split(int color, int key) override {
    wait(start_barrier());
    return std::make_shared<BackgroundOperations>(operations_->split(color, key));
  }
  [[nodiscard]] std::shared_ptr<Operations> patient() override { return split(0, rank()); }
  [[nodiscard]] std::shared_ptr<Operations> in_background() override { return split(0, rank()); }

 private:
  struct Task {
    Collective kind{};
    bool busy = false;
    bool done = false;
    index_t turn = 0;
    std::span<const float> send_floats;
    std::span<float> receive_floats;
    std::span<const std::byte> send;
    std::span<std::byte> receive;
    std::vector<index_t> send_counts, receive_counts;
    int dest = no_rank;
    int source = no_rank;
    index_t wire_bytes = 0;
    std::exception_ptr fault;
  };

  template <class Fill>
  int enqueue(Collective kind, Fill&& fill) {
    std::size_t id = 0;
    {
      const std::lock_guard lock(mutex_);
      while (id < tasks_.size() && tasks_[id].busy) ++id;
      if (id == tasks_.size()) tasks_.emplace_back();
      Task& task = tasks_[id];
      task.kind = kind, task.busy = true, task.done = false, task.turn = started_++;
      fill(task);
    }
    changed_.notify_all();
    return static_cast<int>(id);
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return ends_ || worked_ < started_; });
      if (worked_ == started_) return;
      Task& task = *std::find_if(tasks_.begin(), tasks_.end(),
                                 [&](const Task& each) { return each.busy && each.turn == worked_; });
      lock.unlock();
      const index_t before = operations_->wire_bytes();
      try {
        operations_->wait(start(task));
      } catch (...) {
        task.fault = std::current_exception();
      }
      lock.lock();
      task.wire_bytes = operations_->wire_bytes() - before;
      task.done = true;
      ++worked_;
      changed_.notify_all();
    }
  }

  int start(const Task& task) {
    switch (task.kind) {
      case Collective::allreduce: return operations_->start_allreduce(task.receive_floats);
      case Collective::reduce_scatter:
        return operations_->start_reduce_scatter(task.send_floats, task.receive_floats, task.send_counts);
      case Collective::allgather: return operations_->start_allgather(task.send, task.receive, task.receive_counts);
      case Collective::alltoall:
        return operations_->start_alltoall(task.send, task.send_counts, task.receive, task.receive_counts);
      case Collective::deal: return operations_->start_deal(task.send, task.send_counts, task.receive);
      case Collective::broadcast: return operations_->start_broadcast(task.receive, task.source);
      case Collective::exchange: return operations_->start_exchange(task.send, task.dest, task.receive, task.source);
      case Collective::barrier: break;
    }
    return operations_->start_barrier();
  }

  std::shared_ptr<Operations> operations_;
  index_t wire_bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;  // a deque: the thread works on one while others are added
  index_t started_ = 0;
  index_t worked_ = 0;
  bool ends_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace tessera::detail
