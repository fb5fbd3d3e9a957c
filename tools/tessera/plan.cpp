// tessera plan: what each rank would hold and send under a policy, and which policy to take, before anything is loaded.
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <tessera/io/checkpoint.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/io/json.hpp>
#include <tessera/io/presets.hpp>
#include <tessera/runtime/advice.hpp>

#include "commands.hpp"
#include "program/combinations.hpp"
#include "program/finite_range.hpp"
#include "program/memory_check.hpp"
#include "program/preset_options.hpp"

namespace tessera::tools {

namespace {

struct PlanOptions {
  program::ModelOptions model;
  std::string preset;
  index_t layers = 0;
  index_t ranks = 1;
  index_t context = 0;
  PlannedRequest request;
  double gigabits = 10, microseconds = 50, gigaflops = 50, gigabytes = 10;
  std::string format = "text";

  [[nodiscard]] Speeds speeds() const {
    return {gigaflops * 1e9, gigabytes * 1e9, gigabits * 1e9 / 8, microseconds * 1e-6};
  }
  /// What a program that runs the request makes room for.
  [[nodiscard]] Limits limits() const {
    const index_t all = request.prompt * request.sequences;
    return {.max_tokens = std::max(request.sequences, std::min(request.chunk, all)),
            .max_positions = context == 0 ? request.prompt + request.new_tokens : context,
            .max_sequences = request.sequences,
            .cache = program::chosen_cache(model)};
  }
};

/// All that is planned.
struct Planned {
  ModelConfig config;
  BytesPerNumber bytes;
  program::Policies policies;
  PolicyChoice chosen;
  std::vector<PolicyChoice> ranked;
};

Planned make_plan(const PlanOptions& o) {
  Planned p;
  p.config = o.preset.empty() ? read_config(o.model.model) : preset_named(o.preset).config();
  if (o.layers > 0) p.config.layers = o.layers;
  const StoredTypes stored =
      o.preset.empty() ? program::stored_types(Checkpoint::open(o.model.model), p.config) : StoredTypes{};
  p.bytes = bytes_per_number(converted_types(stored, program::chosen_formats(o.model)), program::chosen_cache(o.model),
                             p.config.head_dim);
  p.policies = program::chosen_policies(o.model, o.ranks);
  const Limits limits = o.limits();
  require(limits.max_positions <= p.config.max_positions, "--context: the model has ", p.config.max_positions,
          " positions (max_position_embeddings), ", limits.max_positions, " were asked for");
  require(o.request.prompt + o.request.new_tokens <= limits.max_positions, "--context: expected ",
          o.request.prompt + o.request.new_tokens, " positions or more, for a prompt of ", o.request.prompt,
          " tokens and ", o.request.new_tokens, " new ones; found ", limits.max_positions);
  const Ranks ranks{0, o.ranks, p.policies.shares, p.policies.inner};
  p.policies.combination->arithmetic.check(p.config, ranks);
  p.chosen = *choice_of(*p.policies.combination, p.config, ranks, o.request, limits, p.bytes, o.speeds());
  p.ranked = rank_policies(program::shipped_combinations(), p.config, o.ranks, o.request, limits, p.bytes, o.speeds());
  return p;
}

std::string text_of(Range r) { return r.empty() ? "-" : fmt::format("{}-{}", r.begin, r.end - 1); }

std::string text_of(const RowSet& rows) {
  if (rows.runs[1].empty()) return text_of(rows.runs[0]);
  return rows.runs[0].empty() ? text_of(rows.runs[1]) : text_of(rows.runs[0]) + "," + text_of(rows.runs[1]);
}

std::string text_of(const CacheLayout& layout) {
  const std::string heads = "heads " + text_of(layout.kv_heads);
  return layout.stripes == 1 ? heads : fmt::format("stripe {} of {}, {}", layout.stripe, layout.stripes, heads);
}

double megabytes(index_t bytes) { return static_cast<double>(bytes) / 1e6; }

/// What one rank has of the plan.
struct RankPart {
  Plan prefill, decode;
  CacheLayout layout;
  Footprint footprint;
};

std::vector<RankPart> parts_of(const Planned& p, const PlanOptions& o) {
  const ShardingArithmetic& sharding = p.policies.combination->arithmetic;
  Limits limits = o.limits();
  limits.states_merge = p.policies.combination->states_merge;
  const PlannedStep prompt(1, 0, std::max<index_t>(2, limits.max_tokens)), token(o.request.sequences, 1, 1);
  std::vector<RankPart> parts;
  for (index_t r = 0; r < o.ranks; ++r) {
    const Ranks ranks{r, o.ranks, p.policies.shares, p.policies.inner};
    parts.push_back({sharding.plan(p.config, ranks, prompt.step()), sharding.plan(p.config, ranks, token.step()),
                     sharding.layout(p.config, ranks), footprint(sharding, p.config, ranks, limits, p.bytes)});
  }
  return parts;
}

void print_ranks(const std::vector<RankPart>& parts) {
  fmt::print("{:>4}  {:<8} {:<12} {:<8} {:<8} {:<12} {:<14} {}\n", "rank", "phase", "rows", "q heads", "KV heads",
             "FFN columns", "vocabulary", "KV cache");
  for (std::size_t r = 0; r < parts.size(); ++r)
    for (const auto& [name, plan] : {std::pair{"prefill", &parts[r].prefill}, {"decode", &parts[r].decode}})
      fmt::print("{:>4}  {:<8} {:<12} {:<8} {:<8} {:<12} {:<14} {}\n", r, name, text_of(plan->kept),
                 text_of(plan->slice.q_heads), text_of(plan->slice.kv_heads), text_of(plan->slice.ffn),
                 text_of(plan->slice.vocab), text_of(parts[r].layout));
  fmt::print("\n{:>4}  {:>12} {:>12} {:>12} {:>12} {:>12}   (MB)\n", "rank", "weights", "KV cache", "activations",
             "exchange", "all");
  for (std::size_t r = 0; r < parts.size(); ++r) {
    const Footprint& f = parts[r].footprint;
    fmt::print("{:>4}  {:>12.1f} {:>12.1f} {:>12.1f} {:>12.1f} {:>12.1f}\n", r, megabytes(f.weights),
               megabytes(f.cache), megabytes(f.activations), megabytes(f.exchange), megabytes(f.total()));
  }
}

void print_traffic(const char* phase, const StepCost& cost, index_t tokens) {
  fmt::print("{:<8} {:>14.1f} {:>10.2f} {:>12.4f} {:>12.4f} {:>12.4f}\n", phase,
             static_cast<double>(cost.wire.bytes) / static_cast<double>(tokens) / 1e3,
             static_cast<double>(cost.wire.messages) / static_cast<double>(tokens), cost.computing, cost.travelling,
             cost.seconds());
}

void print_text(const Planned& p, const PlanOptions& o) {
  const ModelConfig& c = p.config;
  const Limits limits = o.limits();
  fmt::print("{}: {} layers, hidden {}, {} query and {} KV heads of {}\n", o.preset.empty() ? o.model.model : o.preset,
             c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim);
  fmt::print("{} ranks, {}, decode {}; {} positions of {} sequence{}, steps of up to {} tokens\n\n", o.ranks,
             o.model.parallel_strategy, p.policies.combination->decode, limits.max_positions, limits.max_sequences,
             limits.max_sequences == 1 ? "" : "s", limits.max_tokens);
  print_ranks(parts_of(p, o));
  fmt::print("\nat {} Gbit/s and {} us from rank to rank, {} GFLOP/s and {} GB/s of memory for each:\n\n", o.gigabits,
             o.microseconds, o.gigaflops, o.gigabytes);
  fmt::print("{:<8} {:>14} {:>10} {:>12} {:>12} {:>12}\n", "", "kB per token", "messages", "computing s",
             "travelling s", "sum s");
  print_traffic("prefill", p.chosen.prefill, o.request.prompt * o.request.sequences);
  print_traffic("decode", p.chosen.decode, o.request.sequences);
  fmt::print("\nPrompts of {} tokens, then {} new ones; what a rank sends per token, the seconds of a step.\n\n",
             o.request.prompt, o.request.new_tokens);
  fmt::print("{:<36} {:<9} {:>10} {:>12} {:>10} {:>14}\n", "policies, the fastest first", "decode", "prefill s",
             "token ms", "request s", "MB of a rank");
  for (const PolicyChoice& each : p.ranked)
    fmt::print("{:<36} {:<9} {:>10.3f} {:>12.2f} {:>10.2f} {:>14.1f}\n",
               typed_name(*each.combination, o.ranks, each.inner), each.combination->decode, each.prefill.seconds(),
               1e3 * each.decode.seconds(), each.seconds(o.request), megabytes(each.footprint.total()));
  const PolicyChoice& best = p.ranked.front();
  fmt::print("\nadvice: --parallel-strategy {} --decode-strategy {}\n",
             typed_name(*best.combination, o.ranks, best.inner), best.combination->decode);
}

Json json_of(const Footprint& f) {
  return {{"weights", f.weights},
          {"cache", f.cache},
          {"activations", f.activations},
          {"exchange", f.exchange},
          {"bytes", f.total()}};
}
Json json_of(Range r) { return Json::array({r.begin, r.end}); }
Json json_of(const StepCost& cost) {
  return {{"computing_seconds", cost.computing},
          {"travelling_seconds", cost.travelling},
          {"sent_bytes", cost.wire.bytes},
          {"messages", cost.wire.messages}};
}
Json json_of(const Plan& plan) {
  Json rows = Json::array();
  for (const Range& run : plan.kept.runs)
    if (!run.empty()) rows.push_back(json_of(run));
  return {{"rows", rows},
          {"q_heads", json_of(plan.slice.q_heads)},
          {"kv_heads", json_of(plan.slice.kv_heads)},
          {"ffn", json_of(plan.slice.ffn)},
          {"vocab", json_of(plan.slice.vocab)}};
}
Json json_of(const PolicyChoice& each, const PlanOptions& o) {
  return {{"parallel_strategy", typed_name(*each.combination, o.ranks, each.inner)},
          {"decode_strategy", each.combination->decode},
          {"prefill", json_of(each.prefill)},
          {"decode", json_of(each.decode)},
          {"request_seconds", each.seconds(o.request)},
          {"largest_rank", json_of(each.footprint)}};
}

void print_json(const Planned& p, const PlanOptions& o) {
  Json ranks = Json::array(), advice = Json::array();
  for (const RankPart& part : parts_of(p, o))
    ranks.push_back({{"prefill", json_of(part.prefill)},
                     {"decode", json_of(part.decode)},
                     {"cache",
                      {{"kv_heads", json_of(part.layout.kv_heads)},
                       {"stripe", part.layout.stripe},
                       {"stripes", part.layout.stripes}}},
                     {"memory", json_of(part.footprint)}});
  for (const PolicyChoice& each : p.ranked) advice.push_back(json_of(each, o));
  fmt::print("{}\n", Json({{"ranks", ranks}, {"chosen", json_of(p.chosen, o)}, {"advice", advice}}).dump(2));
}

void plan(const PlanOptions& o) {
  const Planned planned = make_plan(o);
  if (o.format == "json")
    print_json(planned, o);
  else
    print_text(planned, o);
}

}  // namespace

void add_plan(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "plan", "Show what each rank would hold and send, and which policy to take, before anything is loaded");
  const auto o = std::make_shared<PlanOptions>();
  command->add_option("--model", o->model.model, "Folder of a checkpoint")->type_name("DIR");
  program::add_preset_options(*command, o->preset, o->layers, "The shape of a published model, in bf16");
  command->add_option("-n,--ranks", o->ranks, "Number of ranks")
      ->check(CLI::Range(1, 4096))
      ->required()
      ->type_name("N");
  program::add_sharding_options(*command, o->model);
  program::add_weight_options(*command, o->model);
  program::add_cache_option(*command, o->model);
  const auto number = [&](const char* name, auto& value, const char* text, index_t most) {
    command->add_option(name, value, text)->check(CLI::Range(index_t{1}, most))->type_name("N")->capture_default_str();
  };
  number("--prompt-len", o->request.prompt, "Tokens of a prompt", 1 << 30);
  number("--gen-len", o->request.new_tokens, "Tokens made after it", 1 << 30);
  number("--batch-size", o->request.sequences, "Sequences at a time", 1 << 16);
  number("--chunk", o->request.chunk, "Tokens that prefill takes at a time", 1 << 20);
  command->add_option("--context", o->context, "Positions to make room for (default: those of prompt and new tokens)")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  const auto speed = [&](const char* name, double& value, const char* text) {
    command->add_option(name, value, text)
        ->check(program::finite_range(1e-9, 1e12))
        ->type_name("X")
        ->capture_default_str();
  };
  speed("--bandwidth", o->gigabits, "Gbit/s that leave a rank");
  speed("--latency", o->microseconds, "Microseconds from rank to rank");
  speed("--flops", o->gigaflops, "GFLOP/s of a rank");
  speed("--memory-bandwidth", o->gigabytes, "GB/s that a rank reads");
  command->add_option("--format", o->format, "text, or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->footer(
      "All figures are arithmetic of the policies themselves. Every rank is taken to be a machine of its own: its "
      "sums\n"
      "and its keys cross the network. What travels is not taken to be hidden behind what is computed.\n\n"
      "  tessera plan --preset qwen3-8b -n 4\n"
      "  tessera plan --model DIR -n 4 --parallel-strategy sequence:2xheadwise:2 --bandwidth 0.1 --latency 2000");
  command->callback([o, command] {
    program::require_shape(*command);
    plan(*o);
  });
}

}  // namespace tessera::tools
