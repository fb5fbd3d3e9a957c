#include "program/session.hpp"

#include <unistd.h>

#include <set>

#include <fmt/format.h>

#include <tessera/comm/agree.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/io/safetensors_writer.hpp>
#include <tessera/parallel/cores.hpp>
#include <tessera/runtime/load_weights.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/text/chat_format.hpp>

namespace tessera::program {

namespace {

/// Every rank's host name, in rank order.
std::vector<std::string> hosts_of(Communicator& comm) {
  struct Name {
    char text[64];
  };
  Name mine{};
  ::gethostname(mine.text, sizeof mine.text - 1);
  std::vector<Name> all(static_cast<std::size_t>(comm.size()));
  const std::vector<index_t> one_each(all.size(), 1);
  comm.allgather<Name>(std::span(&mine, 1), std::span(all), one_each);
  std::vector<std::string> hosts;
  for (const Name& name : all) hosts.emplace_back(name.text);
  return hosts;
}

void report(AnyModel& model, const ModelOptions& options, const Policies& policies,
            const std::vector<std::string>& hosts) {
  Communicator& comm = model.comm();
  if (comm.rank() != 0) return;
  const std::set<std::string> distinct(hosts.begin(), hosts.end());
  fmt::print(stderr, "{}: {} layers, hidden {}, {} query and {} KV heads of {}\n", options.model, model.config().layers,
             model.config().hidden, model.config().heads, model.config().kv_heads, model.config().head_dim);
  fmt::print(stderr, "ranks {} ({}) on {} host{}, threads {} each; sharding {}, decode {}, softmax {}, simd {} ({})\n",
             comm.size(), comm.name(), distinct.size(), distinct.size() == 1 ? "" : "s", model.threads(),
             options.parallel_strategy, policies.combination->decode, options.attention_algo, options.simd,
             options.simd == "native" ? compiled_isa() : "scalar reference");
  fmt::print(stderr,
             "memory of a rank: activations {:.1f} MB, KV cache {:.1f} MB for {} positions; weights are mapped\n",
             static_cast<double>(model.activation_bytes()) / 1e6, static_cast<double>(model.cache_bytes()) / 1e6,
             model.limits().max_positions);
}

}  // namespace

Opened open_model(Communicator comm, const ModelOptions& options, bool needs_tokenizer) {
  return agree(comm, [&] {
    Opened opened;
    opened.config = read_config(options.model);
    const Policies policies = chosen_policies(options, comm.size());
    policies.combination->check(opened.config, policies.ranks(comm));
    opened.weights = load_weights(Checkpoint::open(options.model), opened.config);
    if (needs_tokenizer) opened.tokenizer = Tokenizer::load(options.model);
    return opened;
  });
}

std::vector<token_t> prompt_ids(Communicator comm, const Opened& opened, const ModelOptions& options,
                                const PromptOptions& prompt, index_t new_tokens, bool chat) {
  return agree(comm, [&] {
    std::vector<token_t> ids;
    if (prompt.as_ids()) {
      ids = parse_ids(prompt.ids);
    } else if (chat) {
      const ChatMessage message{"user", prompt.text};
      ids = opened.tokenizer->encode(ChatFormat::load(options.model).render({&message, 1}, true), false);
    } else {
      ids = opened.tokenizer->encode(prompt.text);
    }
    require(!ids.empty(), "--prompt: expected a text of at least one token, found an empty one");
    for (const token_t id : ids)
      require(0 <= id && id < opened.config.vocab, "token ids: expected 0 to ", opened.config.vocab - 1, ", found ",
              id);
    const auto positions = static_cast<index_t>(ids.size()) + new_tokens;
    require(positions <= opened.config.max_positions, "the prompt has ", ids.size(), " tokens and ", new_tokens,
            " more are to come; the model has ", opened.config.max_positions,
            " positions (max_position_embeddings): shorten one of them");
    return ids;
  });
}

std::unique_ptr<AnyModel> make_model(Communicator comm, const Opened& opened, const ModelOptions& options,
                                     index_t positions, index_t longest_prompt, index_t sequences) {
  const std::vector<std::string> hosts = hosts_of(comm);
  const auto here = std::count(hosts.begin(), hosts.end(), hosts[static_cast<std::size_t>(comm.rank())]);
  TransformerOptions sizes;
  sizes.limits = {.max_tokens = std::max(sequences, std::min(options.chunk, longest_prompt)),
                  .max_positions = positions,
                  .max_sequences = sequences};
  sizes.threads = options.threads > 0 ? options.threads : default_threads(static_cast<int>(here));
  comm.set_timeout(options.timeout);
  const Policies policies = chosen_policies(options, comm.size());
  sizes.shares = policies.shares;
  sizes.inner = policies.inner;
  auto model = policies.combination->make(comm, opened.config, opened.weights, sizes);
  report(*model, options, policies, hosts);
  return model;
}

WholePrefill prefill_all(AnyModel& model, std::span<const token_t> prompt) {
  const index_t vocab = model.config().vocab;
  const auto chunk_size = static_cast<std::size_t>(model.limits().max_tokens);
  WholePrefill result;
  Argmax argmax;
  std::vector<token_t> best;
  for (std::size_t done = 0; done < prompt.size();) {
    const std::size_t count = std::min(chunk_size, prompt.size() - done);
    const Chunk chunk{0, prompt.subspan(done, count), Wanted::all};
    const Logits logits = model.step({&chunk, 1});
    const Buffer<float> rows = gather_logits(model.comm(), logits, model.ranks(), vocab);
    if (model.comm().rank() == 0) result.logits.insert(result.logits.end(), rows.data(), rows.data() + rows.size());
    best.resize(count);
    argmax(model.comm(), logits, best);
    result.next = best.back();
    done += count;
  }
  return result;
}

void write_logits(const std::string& file, std::span<const token_t> ids, std::span<const float> logits, index_t vocab) {
  const auto rows = static_cast<index_t>(ids.size());
  const std::vector<std::int64_t> wide(ids.begin(), ids.end());
  SafetensorsWriter writer(file, {{"logits", StoredType::f32, {rows, vocab}}, {"input_ids", StoredType::i64, {rows}}});
  writer.write<float>(0, logits);
  writer.write<std::int64_t>(1, wide);
  writer.finish();
}

}  // namespace tessera::program
