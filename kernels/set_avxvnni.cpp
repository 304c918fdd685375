// The kernels for processors with AVX2 and its VNNI.
#include "sets.h"

#if defined(ATTACCA_X86)
#define ATTACCA_SET ATTACCA_SET_AVXVNNI
ATTACCA_BEGIN("avx2,fma,avxvnni")
namespace attacca {
namespace avxvnni {
#include "vectors.h"

#include "products.h"

#include "attention.h"

#include "layers.h"

#include "run.h"
}  // namespace avxvnni
}  // namespace attacca
ATTACCA_END

namespace attacca {
const Kernels AVXVNNI = {"avxvnni", avxvnni::run};
}
#endif
