#pragma once
// The shipped policies, and Transformer of every combination of them, compiled elsewhere where a program wants that.
//
// A program that defines TESSERA_EXTERN_TEMPLATES in its units compiles none of these there; one unit of it, which says
// `#include <tessera/instances.cpp>` and nothing else, compiles them all, with the program's own flags.

#include <tessera/models/transformer.hpp>

// X(policy) for each of a kind: a new policy is one entry here. The first sharding of a name is the one that is meant
// where no decode strategy is named. Softmaxes and backends hand on what they are given first.
#define TESSERA_EACH_SHARDING(X) \
  X(HeadWise)                    \
  X(HeadWiseScattered)           \
  X(Sequence<>)                  \
  X(Sequence<RingKv>)            \
  X(Ulysses)                     \
  X(HeadWiseThenHelix)           \
  X(HeadWiseScatteredThenHelix)  \
  X(UlyssesThenHelix)            \
  X(SequenceThenHeadWise)        \
  X(SequenceOfHeadWise)          \
  X(SequenceOfHeadWiseScattered) \
  X(RingOfHeadWise)
// X(before each), where "before" ends with its own comma: TESSERA_EACH_SOFTMAX(X, sharding, ).
#define TESSERA_EACH_SOFTMAX(X, ...) \
  X(__VA_ARGS__ OnlineSoftmax)       \
  X(__VA_ARGS__ StandardSoftmax)
#define TESSERA_EACH_BACKEND(X, ...) \
  X(__VA_ARGS__ XsimdBackend<>)      \
  X(__VA_ARGS__ ScalarBackend)

// X(sharding, softmax, backend) for every combination.
#define TESSERA_BACKENDS_OF(...) TESSERA_EACH_BACKEND(TESSERA_X, __VA_ARGS__, )
#define TESSERA_SOFTMAXES_OF(sharding) TESSERA_EACH_SOFTMAX(TESSERA_BACKENDS_OF, sharding, )
#define TESSERA_EACH_COMBINATION TESSERA_EACH_SHARDING(TESSERA_SOFTMAXES_OF)

namespace tessera {

#if defined(TESSERA_EXTERN_TEMPLATES)
#define TESSERA_X(sharding, softmax, backend) extern template class Transformer<sharding, softmax, backend>;
TESSERA_EACH_COMBINATION
#undef TESSERA_X
#endif

}  // namespace tessera
