#include "program/session.hpp"

#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>

#include <fmt/format.h>

#include <tessera/comm/same_everywhere.hpp>
#include <tessera/io/fingerprint.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/io/safetensors_writer.hpp>
#include <tessera/runtime/load_weights.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/text/unicode.hpp>

#include "program/machine_memory.hpp"
#include "program/memory_check.hpp"

namespace tessera::program {

namespace {

/// One prompt's ids; `where` names it in messages.
std::vector<token_t> checked_ids(const Opened& opened, const ModelOptions& options, const PromptOptions& prompt,
                                 index_t new_tokens, const ChatStyle* chat, const std::string& where) {
  std::vector<token_t> ids;
  text::require_utf8(prompt.text, where);
  if (prompt.as_ids()) {
    ids = parse_ids("--input-ids", prompt.ids);
  } else if (chat != nullptr) {
    std::vector<ChatMessage> messages;
    if (chat->system) messages.push_back({"system", *chat->system});
    messages.push_back({"user", prompt.text});
    const std::string text = chat_format(options.model, *chat).render(messages, true, chat->options());
    ids = opened.tokenizer->encode(text, false);
  } else {
    ids = opened.tokenizer->encode(prompt.text);
  }
  require(!ids.empty(), where, ": expected a text of at least one token, found an empty one");
  require_ids(ids, opened.config);
  const auto positions = static_cast<index_t>(ids.size()) + new_tokens;
  require(positions <= opened.config.max_positions, where, ": the prompt has ", ids.size(), " tokens and ", new_tokens,
          " more are to come; the model has ", opened.config.max_positions,
          " positions (max_position_embeddings): shorten one of them");
  return ids;
}

Tokenizer load_tokenizer(const std::filesystem::path& folder) {
  require(std::filesystem::exists(folder / "tokenizer.json") || std::filesystem::exists(folder / "tokenizer.model"),
          folder.string(),
          ": expected tokenizer.json, to make ids of text, found none: get it from where the model is ",
          "published, or give ids, --input-ids 1,2,3, to a program that takes them");
  return Tokenizer::load(folder);
}

/// What ranks that read the model from disks of their own must have read alike.
std::vector<Fact> facts_of(const std::filesystem::path& folder, const Checkpoint& checkpoint, bool with_text) {
  const auto hash = [](std::uint64_t value) { return fmt::format("hash {:016x}", value); };
  std::vector<std::string> files{"config.json", "generation_config.json"};
  if (with_text)
    for (const char* file : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja"})
      files.emplace_back(file);
  std::vector<Fact> facts;
  for (const std::string& file : files) {
    if (!std::filesystem::exists(folder / file)) continue;
    tessera::detail::Fnv content;
    content.add(read_text(folder / file, text::largest_tokenizer));
    facts.push_back({file, hash(content.value())});
  }
  const Fingerprint print = fingerprint(checkpoint);
  facts.insert(facts.end(), {{"files", std::to_string(print.files)},
                             {"bytes", std::to_string(print.bytes)},
                             {"names, types and shapes of tensors", hash(print.headers)},
                             {"a sample of the weights", hash(print.sample)}});
  return facts;
}

std::string text_of_file(const std::string& path) {
  std::ifstream file(path);
  require(file.is_open(), "--prompt-file: expected a file that can be read, found ", path);
  return {std::istreambuf_iterator<char>(file), {}};
}

MemoryPlan memory_plan_of(const Opened& opened, const ModelOptions& options, index_t ranks) {
  return memory_plan(options, opened.config, opened.stored, ranks, opened.placement.share.threads);
}

/// What is still to come once the weights are there: those that were converted are counted in what is free already.
MemoryPlan plan_of_loaded(const Opened& opened, const ModelOptions& options, index_t ranks) {
  MemoryPlan plan = memory_plan_of(opened, options, ranks);
  plan.converts_layers = plan.converts_lm_head = false;
  return plan;
}

}  // namespace

Opened open_model(Communicator comm, const ModelOptions& options, bool needs_tokenizer) {
  const Placement placement = take_cores(comm, options.threads, options.binding == "auto");
  std::optional<Checkpoint> checkpoint;
  Opened opened = agree(comm, [&] {
    Opened found;
    found.placement = placement;
    found.config = read_config(options.model);
    const Policies policies = chosen_policies(options, comm.size());
    policies.combination->arithmetic.check(found.config, policies.ranks(comm));
    checkpoint = Checkpoint::open(options.model);
    found.stored = stored_types(*checkpoint, found.config);
    return found;
  });
  // Weights that are converted take memory at once; how much more the model wants is known when it is made.
  const MemoryPlan plan = memory_plan_of(opened, options, comm.size());
  if ((plan.converts_layers || plan.converts_lm_head) && !options.ignore_memory)
    require_memory(comm, plan, {.max_tokens = 1, .max_positions = 1});
  std::vector<Fact> facts;
  agree(comm, [&] {
    if (comm.size() > 1) facts = facts_of(options.model, *checkpoint, needs_tokenizer);
    opened.weights =
        load_weights(std::move(*checkpoint), opened.config, chosen_formats(options), placement.share.threads);
    if (needs_tokenizer) opened.tokenizer = load_tokenizer(options.model);
  });
  require_same_everywhere(comm, "checkpoints", facts);  // what is wrong with one of them was said before
  opened.bytes_before = anonymous_bytes();
  return opened;
}

std::string text_of_first(Communicator comm, const std::function<std::string()>& act) {
  std::string text;
  tessera::detail::Fault fault;
  if (comm.rank() == 0) {
    try {
      text = act();
    } catch (...) {
      fault = tessera::detail::current_fault();
      text = fault.text;
    }
  }
  const tessera::detail::TimeoutScope patient(comm, 0);
  comm.broadcast(std::span(&fault.status, 1), 0);
  tessera::detail::broadcast_whole(comm, text);
  if (fault.status != 0) throw AgreedError(text, fault.status);
  return text;
}

void require_ids(std::span<const token_t> ids, const ModelConfig& config) {
  for (const token_t id : ids)
    require(0 <= id && id < config.vocab, "token ids: expected 0 to ", config.vocab - 1, ", found ", id);
}

std::vector<token_t> ids_of_first(Communicator comm, std::vector<token_t> ids) {
  tessera::detail::broadcast_whole(comm, ids);
  return ids;
}

std::vector<token_t> prompt_ids(const Communicator& comm, const Opened& opened, const ModelOptions& options,
                                const PromptOptions& prompt, index_t new_tokens, const ChatStyle* chat) {
  return ids_of_first(comm,
                      agree(comm, [&] { return checked_ids(opened, options, prompt, new_tokens, chat, "--prompt"); }));
}

std::vector<std::vector<token_t>> all_prompt_ids(const Communicator& comm, const Opened& opened,
                                                 const ModelOptions& options, const PromptOptions& prompt,
                                                 index_t new_tokens, const ChatStyle* chat) {
  if (prompt.file.empty()) return {prompt_ids(comm, opened, options, prompt, new_tokens, chat)};
  const std::string text = text_of_first(comm, [&] { return text_of_file(prompt.file); });
  auto prompts = agree(comm, [&] {
    std::istringstream file(text);
    std::vector<std::vector<token_t>> all;
    PromptOptions line;
    line.has_text = true;
    constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
    while (std::getline(file, line.text)) {
      if (all.empty() && line.text.starts_with(byte_order_mark)) line.text.erase(0, byte_order_mark.size());
      if (!line.text.empty() && line.text.back() == '\r') line.text.pop_back();
      const std::string where = concat(prompt.file, ", line ", all.size() + 1);
      all.push_back(checked_ids(opened, options, line, new_tokens, chat, where));
    }
    require(!all.empty(), "--prompt-file: expected a prompt per line, found none in ", prompt.file);
    return all;
  });
  for (std::vector<token_t>& ids : prompts) ids = ids_of_first(comm, std::move(ids));
  return prompts;
}

int ranks_here(Communicator comm) {
  const int mine = comm.machine();
  std::vector<int> machines(static_cast<std::size_t>(comm.size()));
  comm.allgather<int>({&mine, 1}, std::span(machines), std::vector<index_t>(machines.size(), 1));
  return static_cast<int>(std::count(machines.begin(), machines.end(), mine));
}

void report(AnyModel& model, const ModelOptions& options, const RankSetup& setup, const std::string& policies) {
  if (options.quiet || model.comm().rank() != 0) return;
  fmt::print(stderr, "{}: {} layers, hidden {}, {} query and {} KV heads of {}\n", options.model, model.config().layers,
             model.config().hidden, model.config().heads, model.config().kv_heads, model.config().head_dim);
  fmt::print(stderr, "{}\n{}{}\n", setup.text, policies, options.compute == "bf16" ? ", products in bf16" : "");
  const auto megabytes = [](std::size_t bytes) { return static_cast<double>(bytes) / 1e6; };
  fmt::print(stderr, "memory of a rank: activations {:.1f} MB, KV cache {:.1f} MB in {} for {} positions; {}\n",
             megabytes(model.activation_bytes()), megabytes(model.cache_bytes()), name_of(model.limits().cache),
             model.limits().max_positions,
             model.copied_bytes() == 0
                 ? "weights are mapped"
                 : fmt::format("{:.1f} MB of weights are copied", megabytes(model.copied_bytes())));
}

RecordedModel make_model(const Communicator& comm, const Opened& opened, const ModelOptions& options, index_t positions,
                         index_t longest_prompt, index_t sequences, Trace* trace, Wanted wanted) {
  const RankSetup setup = set_up_ranks(comm, options, opened.placement);
  TransformerOptions sizes;
  sizes.limits = {.max_tokens = std::max(sequences, std::min(options.chunk, longest_prompt)),
                  .max_positions = positions,
                  .max_sequences = sequences,
                  .cache = chosen_cache(options)};
  if (wanted == Wanted::all) sizes.limits.max_wanted = sizes.limits.max_tokens;
  sizes.threads = setup.threads;
  sizes.overlap = setup.overlap;
  sizes.copies_weights = options.copy_weights;
  sizes.trace = trace;
  const Policies policies = chosen_policies(options, comm.size());
  if (!options.ignore_memory) require_memory(comm, plan_of_loaded(opened, options, comm.size()), sizes.limits);
  sizes.shares = policies.shares;
  sizes.inner = policies.inner;
  // Recorded above the transport, whatever that is made of: an operation counts once, by what its caller waits.
  auto [recorded, ledger] = record(setup.comm);
  auto model = policies.combination->make(recorded, opened.config, opened.weights, sizes);
  report(*model, options, setup,
         fmt::format("sharding {}, decode {}, softmax {}, simd {} ({})", options.parallel_strategy,
                     policies.combination->decode, options.attention_algo, options.simd,
                     options.simd == "native" ? compiled_isa() : "scalar reference"));
  return {std::move(model), std::move(ledger)};
}

void end_run(AnyModel& model, const Opened& opened, const ModelOptions& options) {
  require_unchanged(model.comm(), opened.weights);
  const std::string text = model.comm().report();
  if (!options.quiet && model.comm().rank() == 0 && !text.empty()) fmt::print(stderr, "activations: {}\n", text);
}

void report_memory(AnyModel& model, const Opened& opened, const ModelOptions& options) {
  if (options.quiet) return;
  Communicator& comm = model.comm();
  const MemoryPlan plan = plan_of_loaded(opened, options, comm.size());
  struct Figures {
    index_t planned, used;
  };
  const Figures mine{own_bytes(plan, comm.rank(), comm.size(), model.limits()),
                     anonymous_bytes() - opened.bytes_before};
  std::vector<Figures> all(static_cast<std::size_t>(comm.size()));
  comm.allgather<Figures>({&mine, 1}, std::span(all), std::vector<index_t>(all.size(), 1));
  const Figures most =
      *std::max_element(all.begin(), all.end(), [](const Figures& a, const Figures& b) { return a.used < b.used; });
  if (comm.rank() == 0)
    fmt::print(stderr, "own memory of a rank: {:.1f} MB planned, {:.1f} MB used\n",
               static_cast<double>(most.planned) / 1e6, static_cast<double>(most.used) / 1e6);
}

token_t dump_logits(AnyModel& model, std::span<const token_t> prompt, const std::string& file) {
  Communicator& comm = model.comm();
  const index_t vocab = model.config().vocab, length = std::ssize(prompt);
  std::optional<SafetensorsWriter> writer;  // of rank 0
  agree(comm, [&] {
    if (comm.rank() != 0) return;
    writer.emplace(file, std::vector<TensorSpec>{{"logits", StoredType::f32, {length, vocab}},
                                                 {"input_ids", StoredType::i64, {length}}});
    writer->write<std::int64_t>(1, std::vector<std::int64_t>(prompt.begin(), prompt.end()));
  });
  Argmax argmax;
  std::vector<token_t> best;
  for (index_t done = 0; done < length;) {
    const index_t count = std::min(model.limits().max_tokens, length - done);
    const Chunk chunk{0, prompt.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(count)), Wanted::all};
    const Logits logits = model.step({&chunk, 1});
    each_whole_rows(comm, logits, model.ranks(), vocab, [&](index_t first, std::span<const float> rows) {
      constexpr auto width = static_cast<index_t>(sizeof(float));
      agree(comm, [&] {
        if (writer) writer->write(0, (done + first) * vocab * width, rows.data(), std::ssize(rows) * width);
      });
    });
    best.resize(static_cast<std::size_t>(count));
    argmax(comm, logits, best);
    done += count;
  }
  agree(comm, [&] {
    if (writer) writer->finish();
  });
  return best.back();
}

}  // namespace tessera::program
