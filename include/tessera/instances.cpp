// The unit of a program that compiles what TESSERA_EXTERN_TEMPLATES leaves out of the others. Give it their flags:
// another -march is another set of types (see tessera/simd/isa.hpp), and does not link.
//
// Two compilers may share the work: a unit for each backend, that defines TESSERA_INSTANCES_OF as XsimdBackend<> or
// ScalarBackend before it includes this file.
#undef TESSERA_EXTERN_TEMPLATES
#include <tessera/runtime/instances.hpp>

namespace tessera {

#define TESSERA_X(sharding, softmax, backend) template class Transformer<sharding, softmax, backend>;
#if defined(TESSERA_INSTANCES_OF)
#define TESSERA_ONE_BACKEND_OF(sharding, softmax) TESSERA_X(sharding, softmax, TESSERA_INSTANCES_OF)
#define TESSERA_SOFTMAXES_OF_ONE(sharding) TESSERA_EACH_SOFTMAX(TESSERA_ONE_BACKEND_OF, sharding, )
TESSERA_EACH_SHARDING(TESSERA_SOFTMAXES_OF_ONE)
#else
TESSERA_EACH_COMBINATION
#endif
#undef TESSERA_X

}  // namespace tessera
