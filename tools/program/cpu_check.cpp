// Compiled without -march: it must run on the processor that it finds wanting.
#include "program/cpu_check.hpp"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

namespace tessera::program {

namespace {

// As comm/launcher.hpp has them. Of its own: the linker may keep an inline function of a unit that was compiled for
// more than this processor has.

/// The first of these variables of the environment; `none` where no launcher has set one.
int number_of(std::initializer_list<const char*> names, int none) {
  for (const char* name : names)
    if (const char* value = std::getenv(name)) return std::atoi(value);
  return none;
}
int launched_rank() { return number_of({"PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"}, 0); }
int launched_ranks() { return number_of({"PMI_SIZE", "OMPI_COMM_WORLD_SIZE"}, 1); }

#if defined(__x86_64__) || defined(__i386__)
/// A bit of cpuid (0: eax, 1: ebx, 2: ecx, 3: edx), for what __builtin_cpu_supports has no name for in Clang 14.
/// Source: Intel's manual, volume 2, CPUID.
bool cpuid_bit(unsigned leaf, unsigned subleaf, int word, int bit) {
  unsigned words[4] = {};
  return __get_cpuid_count(leaf, subleaf, &words[0], &words[1], &words[2], &words[3]) != 0 &&
         (words[word] >> bit & 1U) != 0;
}

// The system keeps the registers of what follows where it keeps those of AVX, or of AVX-512.
bool has_f16c() { return __builtin_cpu_supports("avx") && cpuid_bit(1, 0, 2, 29); }
bool has_avx512fp16() { return __builtin_cpu_supports("avx512f") && cpuid_bit(7, 0, 3, 23); }
bool has_avxvnni() { return __builtin_cpu_supports("avx2") && cpuid_bit(7, 1, 0, 4); }
#endif

}  // namespace

void refuse_processor(const char* program, const char* missing) {
  char where[320] = "";
  if (launched_ranks() > 1) {
    char host[256] = "?";
    ::gethostname(host, sizeof host - 1);
    std::snprintf(where, sizeof where, " (rank %d of %d on %s)", launched_rank(), launched_ranks(), host);
  }
  std::fprintf(stderr,
               "%s: error: compiled for a processor with %s, which this one lacks; build it on this machine, or with "
               "-Dmarch=x86-64-v2%s\n",
               program, missing, where);
  if (launched_ranks() > 1) {
    // Ranks on better processors wait in MPI_Init, for ever where this one has left; of a signal the launcher takes
    // note.
    ::usleep(200'000);  // it forwards what was printed
    ::signal(SIGTERM, SIG_DFL);
    ::raise(SIGTERM);
  }
  std::_Exit(1);
}

void check_cpu(const char* program, const CompiledFor& compiled) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  if (compiled.sse4_2 && !__builtin_cpu_supports("sse4.2")) refuse_processor(program, "SSE4.2");
  if (compiled.avx2 && !__builtin_cpu_supports("avx2")) refuse_processor(program, "AVX2");
  if (compiled.fma && !__builtin_cpu_supports("fma")) refuse_processor(program, "FMA");
  if (compiled.avx512f && !__builtin_cpu_supports("avx512f")) refuse_processor(program, "AVX-512");
  if (compiled.avx512bf16 && !__builtin_cpu_supports("avx512bf16")) refuse_processor(program, "AVX512-BF16");
  if (compiled.avx512vnni && !__builtin_cpu_supports("avx512vnni")) refuse_processor(program, "AVX512-VNNI");
  if (compiled.f16c && !has_f16c()) refuse_processor(program, "F16C");
  if (compiled.avx512fp16 && !has_avx512fp16()) refuse_processor(program, "AVX512-FP16");
  const char* better = nullptr;
  if (!compiled.avx512f && __builtin_cpu_supports("avx512f"))
    better = "AVX-512";
  else if (!compiled.avx2 && __builtin_cpu_supports("avx2"))
    better = "AVX2";
  if (better != nullptr && launched_rank() == 0)
    std::fprintf(stderr, "%s: this processor has %s, which this build does not use: configure with -Dmarch=native\n",
                 program, better);
#else
  static_cast<void>(program);
  static_cast<void>(compiled);
#endif
}

std::string best_isa() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx")) return __builtin_cpu_supports("sse4.2") ? "sse4_2" : "sse2";
  std::string name = "avx";
  if (__builtin_cpu_supports("avx512f"))
    name = "avx512";
  else if (__builtin_cpu_supports("avx2"))
    name = __builtin_cpu_supports("fma") ? "avx2_fma" : "avx2";
  if (__builtin_cpu_supports("avx512bf16")) name += "_bf16";
  if (has_avx512fp16())
    name += "_fp16";
  else if (has_f16c())
    name += "_f16c";
  if (__builtin_cpu_supports("avx512vnni") || has_avxvnni()) name += "_vnni";
  return name;
#else
  return "";
#endif
}

}  // namespace tessera::program
