// The kernels for processors with AVX-512 and VNNI.
#include "sets.h"

#if defined(ATTACCA_X86)
#define ATTACCA_SET ATTACCA_SET_AVX512
ATTACCA_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")
namespace attacca {
namespace avx512 {
#include "vectors.h"

#include "products.h"

#include "attention.h"

#include "layers.h"

#include "run.h"
}  // namespace avx512
}  // namespace attacca
ATTACCA_END

namespace attacca {
const Kernels AVX512 = {"avx512vnni", avx512::run};
}
#endif
