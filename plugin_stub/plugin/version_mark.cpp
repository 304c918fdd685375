// The version as text that stands in every built file and can be found there without loading it: `attacca plugin where`
// does.
extern "C" {
extern const char attacca_version_mark[];
#if defined(__GNUC__)
__attribute__((used))
#endif
const char attacca_version_mark[] = "attacca-plugin-version=" ATTACCA_VERSION ";";
}
