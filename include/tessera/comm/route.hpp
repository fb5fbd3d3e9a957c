#pragma once
// One rank's part in an operation that travels in rounds: what it sends to whom in each, and where that belongs.

#include <cstring>
#include <vector>

#include <tessera/comm/operation.hpp>
#include <tessera/comm/rounds.hpp>

namespace tessera::detail {

/// All ranks start a deal or a gather of the same counts; then, round for round, what `pack` leaves in `sent` goes out
/// as an all-to-all, and `unpack` takes what has come into `received`, until `done`. Nothing is allocated once the
/// largest has been seen.
class Route {
 public:
  /// Rank r gets counts[r] bytes of every rank: `send` is one piece per receiver, `terms` one per sender, both in rank
  /// order. What has not moved yet is read from `send`.
  void deal(Rounds rounds, int rank, std::span<const std::byte> send, std::span<const index_t> counts,
            std::span<std::byte> terms) {
    begin(rounds, rank, counts);
    deals_ = true, send_ = send.data(), all_ = terms.data();
    stride_ = *std::max_element(counts_.begin(), counts_.end());
    waiting_ = slots_.bytes(stride_ * ranks()).data();
    copy(send_ + begin_of(rank_), terms_of(rank_), counts_[at(rank_)]);
  }
  /// Every rank gets all pieces, counts[r] bytes of rank r, in rank order. `mine` may lie in its place in `all`.
  void gather(Rounds rounds, int rank, std::span<const std::byte> mine, std::span<std::byte> all,
              std::span<const index_t> counts) {
    begin(rounds, rank, counts);
    deals_ = false, all_ = all.data();
    if (mine.data() != piece_of(rank_)) copy(mine.data(), piece_of(rank_), counts_[at(rank_)]);
  }

  [[nodiscard]] bool done() const { return round_ == rounds_.count; }

  void pack() {
    send_counts_.assign(at(ranks()), 0), receive_counts_.assign(at(ranks()), 0);
    index_t going = 0, coming = 0;
    for (index_t step = 1; step <= rounds_.partners(round_); ++step) {
      each_going(step, [&](const std::byte*, index_t bytes) { send_counts_[at(receiver(step))] += bytes; });
      each_coming(step, [&](std::byte*, index_t bytes) { receive_counts_[at(sender(step))] += bytes; });
      going += send_counts_[at(receiver(step))], coming += receive_counts_[at(sender(step))];
    }
    sent_ = sent_memory_.bytes(going), received_ = received_memory_.bytes(coming);
    std::byte* to = sent_.data();
    in_rank_order(deals_, [&](index_t step) {
      each_going(step, [&](const std::byte* from, index_t bytes) { copy(from, to, bytes), to += bytes; });
    });
  }
  [[nodiscard]] std::span<const std::byte> sent() const { return sent_; }
  [[nodiscard]] std::span<std::byte> received() const { return received_; }
  [[nodiscard]] std::span<const index_t> send_counts() const { return send_counts_; }
  [[nodiscard]] std::span<const index_t> receive_counts() const { return receive_counts_; }

  void unpack() {
    const std::byte* from = received_.data();
    in_rank_order(!deals_, [&](index_t step) {
      each_coming(step, [&](std::byte* to, index_t bytes) { copy(from, to, bytes), from += bytes; });
    });
    ++round_, span_ *= rounds_.radix;
  }

 private:
  void begin(Rounds rounds, int rank, std::span<const index_t> counts) {
    rounds_ = rounds, rank_ = rank, round_ = 0, span_ = 1;
    counts_.assign(counts.begin(), counts.end());
    begins_.assign(1, 0);
    for (const index_t count : counts_) begins_.push_back(begins_.back() + count);
  }

  [[nodiscard]] index_t ranks() const { return rounds_.ranks; }
  [[nodiscard]] index_t after(index_t distance) const { return (rank_ + distance) % ranks(); }
  [[nodiscard]] index_t before(index_t distance) const { return (rank_ + ranks() - distance) % ranks(); }
  /// What is dealt goes forward; what is gathered goes back, so that a rank fills its own place and those that follow.
  [[nodiscard]] index_t receiver(index_t step) const { return deals_ ? after(step * span_) : before(step * span_); }
  [[nodiscard]] index_t sender(index_t step) const { return deals_ ? before(step * span_) : after(step * span_); }

  /// Calls act(step) for the partners of a round, which are `ahead` of this rank or behind it, by ascending rank.
  template <class Act>
  void in_rank_order(bool ahead, Act&& act) const {
    for (index_t r = 0; r < ranks(); ++r) {
      const index_t distance = (ahead ? r - rank_ + ranks() : rank_ - r + ranks()) % ranks();
      if (distance % span_ == 0 && distance / span_ >= 1 && distance / span_ <= rounds_.partners(round_))
        act(distance / span_);
    }
  }

  /// Distances below the number of ranks whose digit of this round is `step`.
  template <class Act>
  void each_distance(index_t step, Act&& act) const {
    for (index_t low = step * span_; low < ranks(); low += span_ * rounds_.radix)
      for (index_t d = low; d < std::min(low + span_, ranks()); ++d) act(d);
  }
  /// act(where, bytes) for each piece that goes to receiver(step).
  template <class Act>
  void each_going(index_t step, Act&& act) const {
    if (!deals_) {  // the pieces of this rank and those that follow it, as many as are here and not there yet
      for (index_t i = 0; i < std::min(span_, ranks() - step * span_); ++i)
        act(piece_of(after(i)), counts_[at(after(i))]);
      return;
    }
    each_distance(step, [&](index_t d) {
      const index_t to = after(d - d % span_);  // where it is still to go
      act(d % span_ == 0 ? send_ + begin_of(to) : waiting_ + d * stride_, counts_[at(to)]);
    });
  }
  /// act(where, bytes) for each piece that comes from sender(step).
  template <class Act>
  void each_coming(index_t step, Act&& act) const {
    if (!deals_) {
      for (index_t i = 0; i < std::min(span_, ranks() - step * span_); ++i)
        act(piece_of(after(step * span_ + i)), counts_[at(after(step * span_ + i))]);
      return;
    }
    const index_t next = span_ * rounds_.radix;
    each_distance(step, [&](index_t d) {
      act(d < next ? terms_of(before(d)) : waiting_ + d * stride_, counts_[at(after(d - d % next))]);
    });
  }

  [[nodiscard]] index_t begin_of(index_t r) const { return begins_[at(r)]; }
  [[nodiscard]] std::byte* piece_of(index_t r) const { return all_ + begin_of(r); }
  [[nodiscard]] std::byte* terms_of(index_t r) const { return all_ + r * counts_[at(rank_)]; }
  static void copy(const std::byte* from, std::byte* to, index_t bytes) {
    if (bytes != 0) std::memcpy(to, from, at(bytes));
  }

  Rounds rounds_;
  index_t rank_ = 0;
  index_t round_ = 0;
  index_t span_ = 1;
  bool deals_ = false;
  const std::byte* send_ = nullptr;
  std::byte* all_ = nullptr;      ///< what comes to stay: terms, or the pieces of all ranks
  std::byte* waiting_ = nullptr;  ///< pieces on their way, by the distance that they have to go in all
  index_t stride_ = 0;
  std::vector<index_t> counts_, begins_, send_counts_, receive_counts_;
  GrowingBuffer slots_, sent_memory_, received_memory_;
  std::span<std::byte> sent_, received_;
};

}  // namespace tessera::detail
