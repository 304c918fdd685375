// The kernels for any processor, and the reference of the others.
#include "sets.h"

#define ATTACCA_SET ATTACCA_SET_PORTABLE

namespace attacca {
namespace portable {
#include "vectors.h"

#include "products.h"

#include "attention.h"

#include "layers.h"

#include "run.h"
}  // namespace portable
}  // namespace attacca

namespace attacca {
const Kernels PORTABLE = {"portable", portable::run};
}
