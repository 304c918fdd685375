// The kernels for 64-bit Arm with the dot product.
#include "sets.h"

#if defined(ATTACCA_ARM)
#define ATTACCA_SET ATTACCA_SET_NEON

namespace attacca {
namespace neon {
#include "vectors.h"

#include "products.h"

#include "attention.h"

#include "layers.h"

#include "run.h"
}  // namespace neon
}  // namespace attacca

namespace attacca {
const Kernels NEON = {"neon", neon::run};
}
#endif
