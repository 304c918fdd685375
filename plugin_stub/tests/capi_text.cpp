// Rules and editing of texts, for tests (tests/plugin/test_plugin_text.py).
#include <algorithm>
#include <cstring>
#include <string>

#include "../core/text_edit.hpp"
#include "../core/text_rules.hpp"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

using namespace attacca;

int64_t copy_bytes(const std::string& text, char* out, int64_t capacity) {
    const auto length = std::min(static_cast<int64_t>(text.size()), capacity);
    std::memcpy(out, text.data(), static_cast<size_t>(length));
    return length;
}

}  // namespace

// Bytes written.
EXPORTED int64_t attacca_text_readable(const char* text, int64_t size, char* out, int64_t capacity) {
    return copy_bytes(readable_text({text, static_cast<size_t>(size)}), out, capacity);
}

EXPORTED void* attacca_edit_new(const char* text) {
    auto* const edit = new TextEdit;
    edit->begin(text);
    return edit;
}

EXPORTED void attacca_edit_free(void* edit) { delete static_cast<TextEdit*>(edit); }
EXPORTED int attacca_edit_type(void* edit, uint32_t character) { return static_cast<TextEdit*>(edit)->type(character); }
EXPORTED int attacca_edit_key(void* edit, int key) {
    return static_cast<TextEdit*>(edit)->key(static_cast<TextKey>(key));
}
EXPORTED int attacca_edit_paste(void* edit, const char* text) { return static_cast<TextEdit*>(edit)->paste(text); }

// Bytes written; `caret` in bytes.
EXPORTED int64_t attacca_edit_text(void* edit, char* out, int64_t capacity, int64_t* caret) {
    *caret = static_cast<int64_t>(static_cast<TextEdit*>(edit)->caret());
    return copy_bytes(static_cast<TextEdit*>(edit)->text(), out, capacity);
}
