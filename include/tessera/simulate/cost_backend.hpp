#pragma once
// CostBackend: a backend on which kernels compute nothing, and a rank owes the time that they would have taken.

#include <string_view>

#include <tessera/simd/backend.hpp>
#include <tessera/simulate/machine_model.hpp>

namespace tessera {

/// What a simulated rank computes on, and the seconds that it has computed since somebody made its clock catch up.
struct CostAccount {
  MachineModel machine;
  double owed = 0;

  void spend(double seconds) { owed += seconds; }
};

/// The account of the rank that runs on this thread.
[[nodiscard]] inline CostAccount& account_of_thread() {
  thread_local CostAccount account;
  return account;
}

/// Models SimdBackend, so that it fits a Transformer's slot; what is computed with it one float at a time is as
/// ScalarBackend has it. The kernels of simulate/cost_kernels.hpp are chosen for it in place of those that compute.
struct CostBackend : ScalarBackend {
  static constexpr std::string_view name() { return "simulated"; }

  /// Finds the account of the rank that asks: that of its thread, unless a program that has all ranks on one thread
  /// has put its own way here.
  static inline CostAccount& (*account)() = &account_of_thread;
};

/// Law: kernels on such a backend read no weight and no activation, and write none; they are given the operands of the
/// kernels that compute, and make account().owed grow by what those would take.
template <class B>
concept CostModel = SimdBackend<B> && requires {
  { B::account().spend(0.0) } -> std::same_as<void>;
};

static_assert(CostModel<CostBackend>);

}  // namespace tessera
