// Compiled without -march: it must run on the processor that it finds wanting.
#include "program/cpu_check.hpp"

#include <cstdio>
#include <cstdlib>
#include <initializer_list>

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

const char* best_isa() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return __builtin_cpu_supports("avx512bf16") ? "avx512_bf16" : "avx512";
  if (__builtin_cpu_supports("avx2")) return __builtin_cpu_supports("fma") ? "avx2_fma" : "avx2";
  if (__builtin_cpu_supports("avx")) return "avx";
  if (__builtin_cpu_supports("sse4.2")) return "sse4_2";
  return "sse2";
#else
  return "";
#endif
}

}  // namespace tessera::program
