// Compiled without -march: it must run on the processor that it finds wanting.
#include "program/cpu_check.hpp"

#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

namespace tessera::program {

namespace {

[[noreturn]] void refuse(const char* program, const char* missing) {
  std::fprintf(stderr,
               "%s: error: compiled for a processor with %s, which this one lacks; build it on this machine, or with "
               "-Dmarch=x86-64-v2\n",
               program, missing);
  // Before MPI_Init, and on every rank of this machine alike.
  std::_Exit(1);
}

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

bool speaks_first() {
  for (const char* name : {"PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"})
    if (const char* rank = std::getenv(name)) return std::atoi(rank) == 0;
  return true;
}

}  // namespace

void check_cpu(const char* program, const CompiledFor& compiled) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  if (compiled.sse4_2 && !__builtin_cpu_supports("sse4.2")) refuse(program, "SSE4.2");
  if (compiled.avx2 && !__builtin_cpu_supports("avx2")) refuse(program, "AVX2");
  if (compiled.fma && !__builtin_cpu_supports("fma")) refuse(program, "FMA");
  if (compiled.avx512f && !__builtin_cpu_supports("avx512f")) refuse(program, "AVX-512");
  if (compiled.avx512bf16 && !__builtin_cpu_supports("avx512bf16")) refuse(program, "AVX512-BF16");
  if (compiled.avx512vnni && !__builtin_cpu_supports("avx512vnni")) refuse(program, "AVX512-VNNI");
  if (compiled.f16c && !has_f16c()) refuse(program, "F16C");
  if (compiled.avx512fp16 && !has_avx512fp16()) refuse(program, "AVX512-FP16");
  const char* better = nullptr;
  if (!compiled.avx512f && __builtin_cpu_supports("avx512f"))
    better = "AVX-512";
  else if (!compiled.avx2 && __builtin_cpu_supports("avx2"))
    better = "AVX2";
  if (better != nullptr && speaks_first())
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
