// The kernels for processors with AVX2.
#include "sets.h"

#if defined(ATTACCA_X86)
#define ATTACCA_SET ATTACCA_SET_AVX2
ATTACCA_BEGIN("avx2,fma")
namespace attacca {
namespace avx2 {
#include "vectors.h"

#include "products.h"

#include "attention.h"

#include "layers.h"

#include "run.h"
}  // namespace avx2
}  // namespace attacca
ATTACCA_END

namespace attacca {
const Kernels AVX2 = {"avx2", avx2::run};
}
#endif
