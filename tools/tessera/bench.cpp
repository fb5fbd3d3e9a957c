// tessera bench: times a model over ranks, threads, policies and lengths, a line of JSON for each measurement.
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <tessera/core/version.hpp>
#include <tessera/io/json.hpp>
#include <tessera/parallel/cores.hpp>

#include "commands.hpp"
#include "commit.hpp"  // made by the build: TESSERA_COMMIT
#include "machine.hpp"
#include "program/preset_options.hpp"
#include "program/random_model.hpp"

namespace tessera::tools {

namespace {

struct BenchOptions {
  std::string model, preset;
  index_t layers = 0;
  std::vector<int> ranks, threads;
  std::vector<std::string> strategies = {"headwise"}, algorithms = {"online_softmax"}, kv_caches = {"f32"};
  std::vector<index_t> prompt_len = {128, 512, 2048}, batch_size = {1};
  index_t gen_len = 32, iters = 3, warmup = 1;
  std::string phase = "both", out, trace, platform, mpiexec = TESSERA_MPIEXEC;
  bool oversubscribe = false;
};

/// One process job of the sweep.
struct Run {
  int ranks;
  int threads;
  index_t batch_size;
  std::string strategy;
  std::string algorithm;
  std::string kv_cache;
};

std::string shell_word(std::string_view word) {
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + '\'';
}

template <class T>
std::string joined(const std::vector<T>& items) {
  return fmt::format("{}", fmt::join(items, ","));
}

/// What a line says about where it was measured.
Json machine_facts() {
  std::string cpu = "unknown";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) {
      cpu = line.substr(std::min(line.size(), line.find(':') + 2));
      break;
    }
  utsname system{};
  ::uname(&system);
  return {{"host", system.nodename},
          {"cpu", cpu},
          {"cores", allowed_cores()},
          {"memory_bytes", memory_of_machine().total},
          {"system", concat(system.sysname, ' ', system.release)}};
}

std::string compiler() {
#if defined(__clang__)
  return concat("clang ", __clang_major__, '.', __clang_minor__, '.', __clang_patchlevel__);
#else
  return concat("gcc ", __GNUC__, '.', __GNUC_MINOR__, '.', __GNUC_PATCHLEVEL__);
#endif
}

/// "FILE.json" of the only run, or "FILE-2x1-headwise.json" of one of many.
std::string trace_file(const std::string& file, const Run& run, bool only) {
  if (only) return file;
  const std::size_t dot = file.rfind('.') == std::string::npos ? file.size() : file.rfind('.');
  return fmt::format("{}-{}x{}-{}-{}-{}-batch{}{}", file.substr(0, dot), run.ranks, run.threads, run.strategy,
                     run.algorithm, run.kv_cache, run.batch_size, file.substr(dot));
}

std::string command_of(const BenchOptions& o, const std::string& model, const Run& run, bool only) {
  std::string command = run.ranks > 1 ? fmt::format("{} -n {} ", o.mpiexec, run.ranks) : "";
  command += shell_word(program::program_folder() + "/benchmark_qwen3");
  const auto add = [&](std::string_view option, std::string_view value) {
    command += fmt::format(" {} {}", option, shell_word(value));
  };
  add("--model", model);
  add("--threads", std::to_string(run.threads));
  add("--parallel-strategy", run.strategy);
  add("--attention-algo", run.algorithm);
  add("--kv-cache", run.kv_cache);
  add("--prompt-len", joined(o.prompt_len));
  if (o.phase != "prefill") add("--gen-len", std::to_string(o.gen_len));
  add("--batch-size", std::to_string(run.batch_size));
  add("--iters", std::to_string(o.iters));
  add("--warmup", std::to_string(o.warmup));
  add("--phase", o.phase);
  add("--format", "json");
  if (!o.trace.empty()) add("--trace", trace_file(o.trace, run, only));
  return command;
}

#ifndef TESSERA_SIMULATE
#define TESSERA_SIMULATE ""  // the path of tools/simulate, where ranks can be simulated
#endif

/// The same on ranks that do not exist: a command for each phase.
std::vector<std::string> simulations_of(const BenchOptions& o, const Run& run) {
  std::vector<std::string> commands;
  for (const char* phase : {"prefill", "decode"}) {
    if (o.phase != "both" && o.phase != phase) continue;
    std::string& command = commands.emplace_back(shell_word(TESSERA_SIMULATE) + " --quiet");
    const auto add = [&](std::string_view option, std::string_view value) {
      command += fmt::format(" {} {}", option, shell_word(value));
    };
    add("--build", program::program_folder() + "/..");
    add("--platform", o.platform);
    add("--model-preset", o.preset);
    if (o.layers > 0) add("--layers", std::to_string(o.layers));
    add("--ranks", std::to_string(run.ranks));
    add("--strategy", run.strategy);
    add("--kv-cache", run.kv_cache);
    add("--phase", phase);
    add("--prompt-len", joined(o.prompt_len));
    add("--gen-len", std::to_string(o.gen_len));
    add("--batch-size", std::to_string(run.batch_size));
  }
  return commands;
}

/// Standard output of a shell command; nothing when it failed.
std::optional<std::string> output_of(const std::string& command) {
  std::FILE* pipe = ::popen(command.c_str(), "r");
  require(pipe != nullptr, "cannot start ", command);
  std::string text;
  char part[4096];
  for (std::size_t n = 0; (n = std::fread(part, 1, sizeof part, pipe)) > 0;) text.append(part, n);
  const int status = ::pclose(pipe);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return std::nullopt;
  return text;
}

/// Rows of a run; nothing when it failed, of which standard error has the reason.
std::optional<Json> rows_of(const BenchOptions& o, const std::string& model, const Run& run, bool only) {
  if (!o.platform.empty()) {
    Json rows = Json::array();
    for (const std::string& command : simulations_of(o, run)) {
      const auto text = output_of(command);
      if (!text) return std::nullopt;
      std::istringstream lines(*text);
      for (std::string line; std::getline(lines, line);) rows.push_back(Json::parse(line));
    }
    // Where it was computed says nothing of where it would run.
    for (Json& row : rows)
      row["machine"] = {{"host", row.at("platform")},
                        {"cpu", row.at("method")},
                        {"cores", row.at("threads")},
                        {"memory_bytes", nullptr},
                        {"system", "SimGrid"}};
    return rows;
  }
  const auto text = output_of(command_of(o, model, run, only));
  return text ? std::optional(Json::parse(*text)) : std::nullopt;
}

std::vector<Run> runs_of(const BenchOptions& o) {
  const bool simulated = !o.platform.empty();  // a rank has the threads of the platform's machine
  std::vector<Run> runs;
  for (const int ranks : o.ranks)
    for (const int threads : simulated ? std::vector<int>{1} : o.threads) {
      if (ranks * threads > allowed_cores() && !o.oversubscribe && !simulated) continue;
      for (const index_t batch_size : o.batch_size)
        for (const std::string& strategy : o.strategies)
          for (const std::string& algorithm : o.algorithms)
            for (const std::string& kv_cache : o.kv_caches)
              runs.push_back({ranks, threads, batch_size, strategy, algorithm, kv_cache});
    }
  return runs;
}

int bench(const BenchOptions& o) {
  require(o.platform.empty() || *TESSERA_SIMULATE != '\0',
          "tessera bench --simulate: expected a build with -Dsimulate=smpi, found one without");
  for (const std::string& algorithm : o.algorithms)
    require(o.platform.empty() || algorithm == "online_softmax",
            "tessera bench --simulate: expected --attention-algo online_softmax, found ", algorithm);
  const std::vector<Run> runs = runs_of(o);
  require(!runs.empty(), "tessera bench: every choice of --ranks and --threads is more than the ", allowed_cores(),
          " cores that there are; --oversubscribe runs them all the same");
  std::optional<program::RandomModel> random;
  if (!o.preset.empty() && o.platform.empty()) random.emplace(o.preset, o.layers);
  const std::string model = random ? random->folder() : o.model;

  std::ofstream file;
  if (!o.out.empty()) {
    file.open(o.out);
    require(file.is_open(), o.out, ": cannot write; --out names a file in a folder that exists");
  }
  std::time_t now = std::time(nullptr);
  char day[32];
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  const Json where = {
      {"machine", machine_facts()},
      {"compiler", compiler()},
      {"commit", TESSERA_COMMIT},
      {"version", concat(TESSERA_VERSION_MAJOR, '.', TESSERA_VERSION_MINOR, '.', TESSERA_VERSION_PATCH)},
      {"measured", day}};
  int failed = 0;
  for (const Run& run : runs) {
    fmt::print(stderr, "{} x {} {}, {}, {} cache, batch {}\n", run.ranks, run.threads, run.strategy, run.algorithm,
               run.kv_cache, run.batch_size);
    const auto rows = rows_of(o, model, run, runs.size() == 1);
    if (!rows) {
      ++failed;  // it has said why on standard error
      continue;
    }
    for (Json row : *rows) {
      if (!o.preset.empty()) row["model"] = o.layers > 0 ? fmt::format("{}, {} layers", o.preset, o.layers) : o.preset;
      for (const auto& [name, value] : where.items())
        if (!row.contains(name)) row[name] = value;
      const std::string line = row.dump() + "\n";
      if (file.is_open())
        file << line << std::flush;
      else
        fmt::print("{}", line), std::fflush(stdout);
    }
  }
  require(!file.is_open() || file.good(), o.out, ": cannot write");
  if (failed > 0) fmt::print(stderr, "{} of {} runs failed\n", failed, runs.size());
  return failed == 0 ? 0 : 1;
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("bench", "Time a model over ranks, threads, policies and lengths; a line of JSON for each");
  const auto o = std::make_shared<BenchOptions>();
  for (int n = 1; n <= allowed_cores(); n *= 2) o->ranks.push_back(n), o->threads.push_back(n);
  command->add_option("--model", o->model, "Folder of a checkpoint")->type_name("DIR");
  auto* preset =
      program::add_preset_options(*command, o->preset, o->layers, "Random weights in the shape of a published model");
  const auto list = [&](const char* name, auto& values, const char* text) {
    return command->add_option(name, values, text)->delimiter(',')->type_name("LIST")->capture_default_str();
  };
  list("--ranks", o->ranks, "Numbers of ranks, each started with mpiexec")->check(CLI::Range(1, 4096));
  list("--threads", o->threads, "Numbers of threads of a rank")->check(CLI::Range(1, most_threads));
  list("--parallel-strategy", o->strategies, "As of tessera generate");
  list("--attention-algo", o->algorithms, "online_softmax, standard");
  list("--kv-cache", o->kv_caches, "f32, bf16, int8");
  list("--prompt-len", o->prompt_len, "Tokens of a prompt; decode goes on from there")->check(CLI::Range(1, 1 << 20));
  list("--batch-size", o->batch_size, "Sequences at a time")->check(CLI::Range(1, 4096));
  command->add_option("--gen-len", o->gen_len, "Tokens that decode makes")->type_name("N")->capture_default_str();
  command->add_option("--iters", o->iters, "Times that are counted")->type_name("N")->capture_default_str();
  command->add_option("--warmup", o->warmup, "Times before that")->type_name("N")->capture_default_str();
  command->add_option("--phase", o->phase, "prefill, decode or both")
      ->check(CLI::IsMember({"prefill", "decode", "both"}))
      ->capture_default_str();
  command->add_option("--out", o->out, "Where the lines go (default: standard output)")->type_name("FILE");
  command->add_option("--trace", o->trace, "Traces for ui.perfetto.dev; of several runs each gets its name into FILE's")
      ->type_name("FILE");
  command->add_option("--mpiexec", o->mpiexec, "What starts ranks, with its options")->capture_default_str();
  command
      ->add_option(
          "--simulate", o->platform,
          "On ranks of this platform, which do not exist (tools/simulate --list); of a build with -Dsimulate=smpi")
      ->type_name("PLATFORM")
      ->needs(preset);
  command->add_flag("--oversubscribe", o->oversubscribe, "Also more ranks times threads than cores");
  command->footer(
      "Runs benchmark_qwen3, which lies beside this program and says what the numbers mean; tools/plot_bench draws "
      "them.\n"
      "\n"
      "  tessera bench --preset qwen3-0.6b --out bench.jsonl\n"
      "  tessera bench --model DIR --ranks 1,2,4 --threads 1 --parallel-strategy headwise,sequence");
  command->callback([o, command, &action] {
    program::require_shape(*command);
    action = [o](const Communicator&) { return bench(*o); };
  });
}

}  // namespace tessera::tools
