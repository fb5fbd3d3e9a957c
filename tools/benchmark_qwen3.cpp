// Prefill and decode, timed on any number of ranks:  mpiexec -n 2 benchmark_qwen3 --preset qwen3-0.6b --prompt-len
// 128,512 With the command line of its predecessor (tensor_cpp's program of this name), each flag of which does what it
// says.
#include <chrono>
#include <filesystem>

#include <fmt/format.h>

#include <tessera/io/atomic_file.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/io/presets.hpp>
#include <tessera/runtime/load_weights.hpp>

#include "program/benchmark_report.hpp"
#include "program/command_line.hpp"
#include "program/frame.hpp"
#include "program/preset_options.hpp"
#include "program/random_model.hpp"
#include "program/session.hpp"

namespace {

using namespace tessera;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

struct Options {
  program::ModelOptions model;
  std::string preset;
  index_t layers = 0;
  std::string phase = "both";
  std::string mode, method, attention;
  bool mode_given = false, method_given = false, gen_len_given = false;
  std::vector<index_t> prompt_len = {128};
  index_t gen_len = 64;
  index_t batch_size = 1;
  program::Repetitions repetitions;
  AttentionBlocks blocks;
  bool use_kv_cache = true;
  bool compare_kv_cache = false;
  std::vector<std::string> verify;
  bool only_verify = false;
  bool verbose = false;
  std::string format = "markdown";
  std::string trace;
  index_t peak_mib = program::peak_bytes >> 20;
};

/// The ids of the predecessor's --verify: a question in Qwen's chat format.
constexpr token_t default_ids[] = {151644, 872,  198,  35127, 752,    264, 2805,   16800, 311,
                                   3460,   4128, 1614, 13,    151645, 198, 151644, 77091, 198};

void add_options(CLI::App& app, Options& o) {
  program::add_model_options(app, o.model);
  program::add_preset_options(app, o.preset, o.layers,
                              "Random weights in the shape of a published model, e.g. qwen3-0.6b");
  app.add_option("--phase", o.phase, "What is timed")
      ->check(CLI::IsMember({"prefill", "decode", "both"}))
      ->capture_default_str();
  app.add_option("--mode", o.mode,
                 "serial: one rank, one thread; omp: one rank, threads; mpi: ranks (default: as started)")
      ->check(CLI::IsMember({"omp", "mpi", "serial"}));
  app.add_option("--method", o.method,
                 "baseline: scalar, one rank; avx2: vectors, one rank; mpi: scalar, ranks; mpi+avx2: vectors, ranks. "
                 "Vectors are those of the instruction set compiled for (default: vectors)")
      ->check(CLI::IsMember({"baseline", "avx2", "mpi", "mpi+avx2"}));
  app.add_option(
         "--attention", o.attention,
         "Deprecated. streaming: --parallel-strategy headwise --attention-algo online_softmax; standard: headwise "
         "and standard. The new options win")
      ->check(CLI::IsMember({"streaming", "standard"}));
  app.add_option("--batch-size", o.batch_size, "Sequences at a time")
      ->check(CLI::Range(1, 4096))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--prompt-len", o.prompt_len, "Tokens of a prompt, e.g. 128,512,2048; decode goes on from there")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("LIST")
      ->capture_default_str();
  app.add_option("--gen-len", o.gen_len, "Tokens that decode makes of each sequence")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--iters", o.repetitions.iters, "Times that are counted")
      ->check(CLI::Range(1, 100000))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--warmup", o.repetitions.warmup, "Times before that")
      ->check(CLI::Range(0, 100000))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--q-block-size", o.blocks.queries,
                 "Queries of a KV head that attention takes at a time, rounded up to whole registers; 0: by the caches")
      ->check(CLI::Range(0, 4096))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--kv-block-size", o.blocks.keys,
                 "Keys that online_softmax takes at a time; 0: by the caches. standard takes all at once")
      ->check(CLI::Range(0, 1 << 20))
      ->type_name("N")
      ->capture_default_str();
  auto* use = app.add_flag_callback(
      "--use-kv-cache", [&o] { o.use_kv_cache = true; }, "Decode with a KV cache, which is the default");
  auto* no = app.add_flag_callback(
      "--no-kv-cache", [&o] { o.use_kv_cache = false; }, "Decode without one: the whole sequence for each token");
  use->excludes(no);
  app.add_flag("--compare-kv-cache", o.compare_kv_cache,
               "Decode with and without a KV cache, and how many times as fast")
      ->excludes(use)
      ->excludes(no);
  app.add_option(
         "--verify", o.verify,
         "Only compare logits and ids with the scalar reference on one rank, all layers, for these ids (default: a "
         "question in Qwen's format); status 1 where they differ")
      ->expected(0, 1)
      ->type_name("[IDS]");
  app.add_flag("--verbose", o.verbose, "More on standard error: sizes, memory, what is under way")
      ->excludes(app.get_option("--quiet"));
  app.add_option("--format", o.format, "Of the report on standard output")
      ->check(CLI::IsMember({"markdown", "csv", "json"}))
      ->capture_default_str();
  app.add_option("--trace", o.trace,
                 "Write what every thread did in one further iteration of each row, for ui.perfetto.dev")
      ->excludes(app.get_option("--verify"))
      ->type_name("FILE");
  app.add_option("--peak-mib", o.peak_mib, "MiB that are read to find the machine's bandwidth")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N")
      ->capture_default_str();
  app.parse_complete_callback([&app, &o] {
    o.only_verify = app.count("--verify") > 0;
    o.mode_given = app.count("--mode") > 0;
    o.method_given = app.count("--method") > 0;
    o.gen_len_given = app.count("--gen-len") > 0;
    program::require_shape(app);
    if (o.attention.empty()) return;
    if (app.count("--parallel-strategy") == 0) o.model.parallel_strategy = "headwise";
    if (app.count("--attention-algo") == 0)
      o.model.attention_algo = o.attention == "streaming" ? "online_softmax" : "standard";
  });
  app.footer(
      "tok/s: the tokens of one iteration (of all prompts; in decode those that are made) over the median time of the\n"
      "slowest rank. % of peak: the time that the machine needs at best, by its arithmetic (f32) or its reads of "
      "weights\n"
      "and cache, whichever takes longer, over that median; its peaks are measured before and after each row.\n\n"
      "  benchmark_qwen3 --preset qwen3-0.6b --prompt-len 128,512,2048 --gen-len 64\n"
      "  mpiexec.mpich -n 2 benchmark_qwen3 --model DIR --threads 1 --format json");
}

/// Holds --mode and --method to what was started, or says why they cannot be had.
void check_path(CLI::App& app, Options& o, index_t ranks) {
  const auto refuse = [](const auto&... text) { throw UsageError(concat(text...)); };
  if (o.method_given) {
    const bool over_ranks = o.method.starts_with("mpi");
    const std::string simd = o.method == "baseline" || o.method == "mpi" ? "scalar" : "native";
    if (!over_ranks && ranks > 1)
      refuse("--method ", o.method, " is one rank, found ", ranks, ": start it without mpiexec, or use --method ",
             o.method == "baseline" ? "mpi" : "mpi+avx2");
    if (!over_ranks && o.mode == "mpi") refuse("--method ", o.method, " and --mode mpi contradict one another");
    if (over_ranks && o.mode_given && o.mode != "mpi")
      refuse("--method ", o.method, " and --mode ", o.mode, " contradict one another");
    if (app.count("--simd") > 0 && o.model.simd != simd)
      refuse("--method ", o.method, " and --simd ", o.model.simd, " contradict one another");
    o.model.simd = simd;
  }
  if (o.mode_given && o.mode != "mpi" && ranks > 1)
    refuse("--mode ", o.mode, " is one rank, found ", ranks, ": start it without mpiexec, or use --mode mpi");
  if (o.mode == "serial") {
    if (o.model.threads > 1) refuse("--mode serial is one thread, found --threads ", o.model.threads);
    o.model.threads = 1;
  }
  if (o.blocks.keys > 0 && o.model.attention_algo == "standard")
    refuse("--kv-block-size: standard attention takes all keys at once; use --attention-algo online_softmax");
  // Prefill is what fills a cache: without decode there is nothing to compare.
  if (o.phase == "prefill" && (o.compare_kv_cache || !o.use_kv_cache))
    refuse(o.compare_kv_cache ? "--compare-kv-cache" : "--no-kv-cache",
           " is about decode, found --phase prefill: use --phase decode");
}

/// Names the path taken where the options leave it open.
void name_path(Options& o, index_t ranks, int threads) {
  const bool vectors = o.model.simd == "native";
  if (!o.mode_given) o.mode = ranks > 1 || o.method.starts_with("mpi") ? "mpi" : threads > 1 ? "omp" : "serial";
  if (!o.method_given) o.method = o.mode == "mpi" ? (vectors ? "mpi+avx2" : "mpi") : (vectors ? "avx2" : "baseline");
}

/// A path from rank 0 to all.
std::string broadcast_text(Communicator& comm, std::string text) {
  auto size = static_cast<index_t>(text.size());
  comm.broadcast(std::span(&size, 1), 0);
  text.resize(static_cast<std::size_t>(size));
  comm.broadcast(std::span(text), 0);
  return text;
}

int run(Communicator comm, int argc, char** argv, Clock::time_point begin) {
  const double seconds_mpi_init = seconds_since(begin);
  CLI::App app("benchmark_qwen3: prefill and decode of a model, timed");
  Options o;
  add_options(app, o);
  if (const auto status = program::parse(comm, app, argc, argv)) return *status;
  const bool speaks = comm.rank() == 0;
  agree(comm, [&] {
    check_path(app, o, comm.size());
    if (speaks && !o.trace.empty()) static_cast<void>(AtomicFile(o.trace));  // known before the work is done
  });
  if (!o.attention.empty() && speaks && !o.model.quiet)
    fmt::print(stderr, "benchmark_qwen3: --attention is deprecated: use --parallel-strategy {} --attention-algo {}\n",
               o.model.parallel_strategy, o.model.attention_algo);
  if (o.gen_len_given && o.phase == "prefill" && speaks && !o.model.quiet)
    fmt::print(stderr, "benchmark_qwen3: --gen-len is about decode and changes nothing under --phase prefill\n");

  std::optional<program::RandomModel> random;
  if (!o.preset.empty()) {
    const std::string folder = agree(comm, [&]() -> std::string {
      static_cast<void>(preset_named(o.preset));
      if (!speaks) return {};
      random.emplace(o.preset, o.layers);
      return random->folder();
    });
    o.model.model = broadcast_text(comm, folder);
  }
  // The predecessor was given the file itself.
  if (o.model.model.ends_with(".safetensors"))
    o.model.model = std::filesystem::path(o.model.model).parent_path().string();

  const auto load_begin = Clock::now();
  program::Opened opened = program::open_model(comm, o.model, false);
  program::BenchmarkSetting setting;
  setting.seconds_load = seconds_since(load_begin);
  const program::Policies policies = program::chosen_policies(o.model, comm.size());
  const program::RankSetup setup = program::set_up_ranks(comm, o.model, opened.placement);
  name_path(o, comm.size(), setup.threads);

  Trace trace(setup.threads);
  TransformerOptions sizes{.limits = {.attention = o.blocks, .cache = program::chosen_cache(o.model)},
                           .threads = setup.threads,
                           .shares = policies.shares,
                           .overlap = setup.overlap,
                           .inner = policies.inner,
                           .copies_weights = o.model.copy_weights,
                           .trace = &trace};
  const auto verify = [&](const std::vector<token_t>& ids, index_t new_tokens, index_t layers) {
    for (const token_t id : ids)
      require(0 <= id && id < opened.config.vocab, "--verify: expected ids 0 to ", opened.config.vocab - 1, ", found ",
              id);
    return program::verify_against_reference(setup.comm, policies, opened.config, opened.weights, sizes, ids,
                                             new_tokens, layers);
  };
  if (o.only_verify) {
    std::vector<token_t> ids(std::begin(default_ids), std::end(default_ids));
    if (!o.verify.empty() && !o.verify.front().empty())
      ids = agree(comm, [&] { return program::parse_ids("--verify", o.verify.front()); });
    else if (opened.config.vocab <= 151936 - 1)
      ids = program::random_ids(18, opened.config.vocab);
    const program::Verdict verdict = verify(ids, 8, opened.config.layers);
    if (speaks)
      fmt::print(
          "{}: {} ids, largest error {:.1e} standard deviations of a row of logits (root mean square {:.1e}), next "
          "ids [{}] {}: {}\n",
          o.model.model, ids.size(), verdict.error, verdict.root_mean_square, fmt::join(verdict.greedy, ","),
          verdict.equal_ids ? "equal" : "different", verdict.good() ? "verified" : "WRONG");
    return verdict.good() ? 0 : 1;
  }

  const auto measure_peak = [&] { return program::measure_peak_of_all(comm, setup.threads, o.peak_mib << 20); };
  program::MachinePeak before = measure_peak();
  // Two layers show a wrong path as well as all of them, in a fraction of the time.
  const program::Verdict verdict = verify(program::random_ids(19, opened.config.vocab), 3, 2);
  agree(comm, [&] {
    require(verdict.good(), "the path to be timed is wrong: its logits are ", verdict.error,
            " standard deviations from those of the scalar reference (root mean square ", verdict.root_mean_square,
            "); please report it");
  });

  const index_t longest = *std::max_element(o.prompt_len.begin(), o.prompt_len.end());
  const index_t positions = longest + (o.phase == "prefill" ? 0 : o.gen_len);
  const auto make_begin = Clock::now();
  agree(comm, [&] {
    require(positions <= opened.config.max_positions, "--prompt-len and --gen-len: the model has ",
            opened.config.max_positions, " positions, ", positions, " were asked for");
  });
  sizes.limits.max_sequences = o.batch_size;
  sizes.limits.max_positions = positions;
  sizes.limits.max_tokens = std::max(o.batch_size, std::min(o.model.chunk, o.batch_size * longest));
  if (o.compare_kv_cache || !o.use_kv_cache)
    sizes.limits.max_tokens = std::max(o.batch_size, std::min(o.model.chunk, o.batch_size * positions));
  const auto model = policies.combination->make(setup.comm, opened.config, opened.weights, sizes);
  setting.seconds_make = seconds_since(make_begin);

  const auto bytes = program::bytes_of(opened.weights);
  setting.model = o.preset.empty() ? o.model.model : concat(o.preset, ", ", opened.config.layers, " layers");
  setting.mode = o.mode, setting.method = o.method;
  setting.parallel_strategy = o.model.parallel_strategy, setting.decode_strategy = policies.combination->decode;
  setting.attention_algo = o.model.attention_algo, setting.simd = o.model.simd;
  setting.isa = o.model.simd == "native" ? compiled_isa() : std::string_view("scalar");
  setting.dtype = name_of(opened.weights.layers.front().q_proj.dtype), setting.transport = setup.comm.name();
  setting.world_size = comm.size(), setting.threads = setup.threads, setting.chunk = sizes.limits.max_tokens;
  setting.attention = o.blocks, setting.cache = sizes.limits.cache, setting.copies_weights = sizes.copies_weights;
  setting.bytes_weights = static_cast<index_t>(bytes.layers + bytes.lm_head);
  setting.seconds_mpi_init = seconds_mpi_init, setting.verified_error = verdict.error;
  if (o.verbose && speaks)
    fmt::print(stderr, "{} layers, hidden {}, {} query and {} KV heads; activations {:.1f} MB, KV cache {:.1f} MB\n",
               opened.config.layers, opened.config.hidden, opened.config.heads, opened.config.kv_heads,
               static_cast<double>(model->activation_bytes()) / 1e6, static_cast<double>(model->cache_bytes()) / 1e6);

  std::vector<program::BenchmarkRow> rows;
  const auto time = [&](program::BenchmarkPhase phase, index_t prompt_len, bool kv_cache) {
    if (o.verbose && speaks) fmt::print(stderr, "timing {} at {} tokens\n", program::name_of(phase), prompt_len);
    const index_t gen_len = phase == program::BenchmarkPhase::decode ? o.gen_len : 0;
    if (o.trace.empty()) trace.clear();
    rows.push_back(program::run_case(*model, model->comm(), {phase, prompt_len, gen_len, o.batch_size, kv_cache},
                                     o.repetitions, trace));
    program::measure_memory(rows.back(), *model);
    const program::MachinePeak after = measure_peak();
    program::hold_against(rows.back(), *model, opened.weights, before, after);
    before = after;
  };
  for (const index_t prompt_len : o.prompt_len) {
    if (o.phase != "decode") time(program::BenchmarkPhase::prefill, prompt_len, true);
    if (o.phase == "prefill") continue;
    if (o.compare_kv_cache || o.use_kv_cache) time(program::BenchmarkPhase::decode, prompt_len, true);
    if (o.compare_kv_cache || !o.use_kv_cache) time(program::BenchmarkPhase::decode, prompt_len, false);
  }
  require_unchanged(comm, opened.weights);  // figures of other weights are figures of nothing
  if (!o.trace.empty()) write_trace(comm, trace, o.trace);
  if (!speaks) return 0;
  fmt::print("{}", program::report(o.format, setting, rows));
  if (o.compare_kv_cache && o.format == "markdown")  // for people; others have both rows
    for (std::size_t i = 0; i + 1 < rows.size(); ++i)
      if (rows[i].of.phase == program::BenchmarkPhase::decode && rows[i].of.kv_cache)
        fmt::print("\ndecode behind {} tokens is {:.2f} times as fast with a KV cache\n", rows[i].of.prompt_len,
                   rows[i].tokens_per_second() / rows[i + 1].tokens_per_second());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto begin = Clock::now();
  return program::run(argc, argv, "benchmark_qwen3",
                      [&](const Communicator& comm) { return run(comm, argc, argv, begin); });
}
