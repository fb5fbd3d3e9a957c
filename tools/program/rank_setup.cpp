#include "program/rank_setup.hpp"

#include <tessera/comm/choose.hpp>
#include <tessera/comm/compressed.hpp>

#ifdef TESSERA_PROGRAM_MPI
#include <tessera/comm/mpi.hpp>
#endif

namespace tessera::program {

namespace {

Chosen chosen_collectives(const Communicator& comm, const std::string& wanted) {
  if (wanted != "mpi-own") return choose_collectives(comm, wanted);
#ifdef TESSERA_PROGRAM_MPI
  if (comm.name() == "mpi") return {Mpi::by_machine({.allreduce = Allreduce::mpi}), "mpi, sums in an order of its own"};
#endif
  fail("--collectives mpi-own: expected ranks that are MPI processes, found ", comm.name());
}

}  // namespace

RankSetup set_up_ranks(Communicator comm, const ModelOptions& options, const Placement& placement) {
  comm.set_timeout(options.timeout);
  const Chosen chosen = chosen_collectives(comm, options.collectives);
  RankSetup setup{compressed(chosen.communicator, wire_format_named(options.wire)),
                  placement.share.threads,
                  options.overlap == "on",
                  {}};
  setup.comm.set_timeout(options.timeout);
  if (options.overlap == "auto") setup.overlap = placement.machines > 1;
  setup.text =
      concat("ranks ", comm.size(), " on ", placement.machines, placement.machines == 1 ? " machine" : " machines",
             ", threads ", setup.threads, " each (", placement.describe(), "); collectives: ", chosen.report);
  if (setup.overlap && comm.size() > 1) setup.text += "; transfers hidden behind prefill";
  return setup;
}

}  // namespace tessera::program
