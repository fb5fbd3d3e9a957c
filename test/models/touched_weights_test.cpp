// What ranks read of the weights and keep of the cache, as the memory's pages tell it: 1/P where the policy says so.
#include "catch.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>

#include <tessera/comm/in_process.hpp>
#include <tessera/io/presets.hpp>

#include "program/combinations.hpp"

using namespace tessera;

namespace {

/// Zeros that nobody has read yet. Reading a page for the first time faults, is noted, and goes on.
class WatchedZeros {
 public:
  static constexpr long page = 4096;

  explicit WatchedZeros(std::size_t pages) : size_(pages * page), touched_(pages) {
    begin_ = static_cast<char*>(::mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(begin_ != MAP_FAILED);
  }
  WatchedZeros(const WatchedZeros&) = delete;
  WatchedZeros& operator=(const WatchedZeros&) = delete;
  ~WatchedZeros() { ::munmap(begin_, size_); }

  /// The next matrix in it, from a page of its own on.
  [[nodiscard]] WeightView matrix(index_t rows, index_t cols) {
    const WeightView view{begin_ + used_, DType::f32, rows, cols, cols};
    used_ += (static_cast<std::size_t>(rows * cols) * sizeof(float) + page - 1) / page * page;
    REQUIRE(used_ <= size_);
    return view;
  }
  [[nodiscard]] index_t touched_pages() const {
    return static_cast<index_t>(
        std::count_if(touched_.begin(), touched_.end(), [](const auto& t) { return t.load(); }));
  }
  [[nodiscard]] index_t used_pages() const { return static_cast<index_t>(used_ / page); }

  /// Notes the fault if it is one of this memory. For the signal handler.
  [[nodiscard]] bool note(void* address) {
    auto* at = static_cast<char*>(address);
    if (at < begin_ || at >= begin_ + size_) return false;
    const auto index = static_cast<std::size_t>(at - begin_) / page;
    touched_[index] = true;
    return ::mprotect(begin_ + index * page, page, PROT_READ) == 0;
  }

 private:
  char* begin_ = nullptr;
  std::size_t size_;
  std::size_t used_ = 0;
  std::vector<std::atomic<bool>> touched_;
};

std::array<std::atomic<WatchedZeros*>, 8> watched{};

void on_fault(int signal, siginfo_t* info, void*) {
  for (auto& zeros : watched)
    if (WatchedZeros* z = zeros; z != nullptr && z->note(info->si_addr)) return;
  std::signal(signal, SIG_DFL);  // a fault of the program's own: it comes again, and ends it
}

/// Notes the faults of `watched` as long as it lives.
class FaultNotes {
 public:
  FaultNotes() {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    ::sigaction(SIGSEGV, &action, &before_);
  }
  FaultNotes(const FaultNotes&) = delete;
  FaultNotes& operator=(const FaultNotes&) = delete;
  ~FaultNotes() { ::sigaction(SIGSEGV, &before_, nullptr); }

 private:
  struct sigaction before_ {};
};

/// Of twelve heads, or as many rows of the vocabulary.
constexpr index_t matrix_pages = 12 * 1024 * 64 * 4 / 4096;

/// A layer whose slices of rows and of columns for 1, 2, 3 and 4 ranks begin and end with a page.
ModelConfig paged_config(index_t kv_heads) {
  ModelConfig config = preset_named("llama2-7b").config();
  config.layers = 1, config.hidden = 64, config.heads = 12, config.kv_heads = kv_heads, config.head_dim = 1024;
  config.intermediate = 12 * 1024, config.vocab = 12 * 1024;
  return config;
}

struct Held {
  index_t pages = 0, all_pages = 0;
  std::size_t cache_bytes = 0;
};

/// A prompt and two tokens on a rank of `comm`: what it read of the weights.
Held run_rank(const Combination& row, const ModelConfig& m, const Communicator& comm) {
  WatchedZeros zeros(8 * matrix_pages);
  watched[static_cast<std::size_t>(comm.rank())] = &zeros;
  const index_t q = m.heads * m.head_dim, kv = m.kv_heads * m.head_dim;
  const std::vector<float> ones(64, 1.0F), tokens(static_cast<std::size_t>(m.vocab * m.hidden), 0.5F);
  ModelWeights weights;
  weights.embedding = {tokens.data(), DType::f32, m.vocab, m.hidden, m.hidden};
  LayerWeights layer;
  layer.input_norm = layer.post_attention_norm = weights.final_norm = ones;
  layer.q_proj = zeros.matrix(q, m.hidden), layer.k_proj = zeros.matrix(kv, m.hidden);
  layer.v_proj = zeros.matrix(kv, m.hidden), layer.o_proj = zeros.matrix(m.hidden, q);
  layer.gate_proj = zeros.matrix(m.intermediate, m.hidden), layer.up_proj = zeros.matrix(m.intermediate, m.hidden);
  layer.down_proj = zeros.matrix(m.hidden, m.intermediate);
  weights.layers = {layer};
  weights.lm_head = zeros.matrix(m.vocab, m.hidden);
  const auto model =
      row.make(comm, m, weights, {.limits = {.max_tokens = 12, .max_positions = 192, .max_sequences = 1}});
  const std::vector<token_t> prompt(12, 7);
  for (const index_t count : {12, 1, 1}) {
    const Chunk chunk{0, std::span(prompt).first(static_cast<std::size_t>(count)), Wanted::last};
    model->step({&chunk, 1});
  }
  watched[static_cast<std::size_t>(comm.rank())] = nullptr;
  return {zeros.touched_pages(), zeros.used_pages(), model->cache_bytes()};
}

std::vector<Held> held_by_ranks(const Combination& row, const ModelConfig& config, int ranks) {
  const FaultNotes notes;
  return InProcess::run(ranks, [&](Communicator comm) { return run_rank(row, config, comm); });
}

}  // namespace

TEST_CASE("ranks read 1/P of the weights under head-wise policies, and keep 1/P of the cache") {
  if (::sysconf(_SC_PAGESIZE) != WatchedZeros::page) {
    WARN("not seen: the slices end with pages of 4 KiB only");
    return;
  }
  const ModelConfig whole_heads = paged_config(12), few_heads = paged_config(2);
  for (const Combination& row : program::shipped_combinations()) {
    if (row.softmax != "online_softmax" || row.backend != "native" || row.is_hybrid()) continue;
    const bool head_wise = row.sharding == "headwise" || row.sharding == "headwise_scattered";
    const bool striped = row.decode == "helix";
    const ModelConfig& config = striped ? few_heads : whole_heads;
    const std::size_t whole_cache = held_by_ranks(row, config, 1).front().cache_bytes;
    for (const int ranks : {1, 2, 3, 4}) {
      for (const Held& held : held_by_ranks(row, config, ranks)) {
        INFO(row.sharding << ", decode " << row.decode << ", " << ranks << " ranks");
        if (head_wise && !striped) CHECK(held.pages * ranks == held.all_pages);
        // With fewer KV heads than ranks, the projections of a KV head are read by all that have queries for it.
        if (head_wise && striped) CHECK(held.pages <= held.all_pages / ranks + 2 * matrix_pages * 2 / 12);
        // Who splits tokens reads the whole layer, and a part of lm_head.
        if (!head_wise) CHECK(held.pages == held.all_pages - matrix_pages + matrix_pages / ranks);
        CHECK(held.cache_bytes * static_cast<std::size_t>(ranks) == whole_cache);
      }
    }
  }
}
