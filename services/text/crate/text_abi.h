#pragma once
// The C ABI of the Rust crate beside this header: Hugging Face tokenizers and Jinja chat templates.
// Written by hand; src/lib.rs is its other half and the two are changed together. Not for use
// outside services/text, whose C++ classes own the handles and turn codes into absl::Status.
//
// Every text goes by pointer and size, need not end in a zero, and must be UTF-8 (checked here:
// anything else is MIRRORSD_TEXT_INVALID). Every call catches panics. On any code but
// MIRRORSD_TEXT_OK, *error holds a message for people and the outputs are left empty. Handles are
// immutable: any number of threads may use one at a time, except for its free call.

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct MirrorsdTextTokenizer MirrorsdTextTokenizer;
typedef struct MirrorsdTextTemplate MirrorsdTextTemplate;

enum {
  MIRRORSD_TEXT_OK = 0,
  MIRRORSD_TEXT_INVALID = 1,           // the file, the text or the ids were wrong
  MIRRORSD_TEXT_RAISED = 2,            // the template's raise_exception: *error is its message alone
  MIRRORSD_TEXT_INVALID_MESSAGES = 3,  // the messages are not a JSON list of objects with a role
  MIRRORSD_TEXT_INVALID_TOOLS = 4,     // the tools are not a JSON list
  MIRRORSD_TEXT_PANIC = 5,             // a bug of the crate or of what it stands on
};

// Owned by the crate; empty is {NULL, 0}.
typedef struct {
  uint8_t* data;
  size_t size;
} MirrorsdTextBytes;

typedef struct {
  uint32_t* data;
  size_t size;
} MirrorsdTextIds;

void mirrorsd_text_bytes_free(MirrorsdTextBytes bytes);
void mirrorsd_text_ids_free(MirrorsdTextIds ids);

// `json` is the content of tokenizer.json. Truncation and padding that it asks for are switched
// off.
enum {
  MIRRORSD_TEXT_RULES_AS_WRITTEN = 0,
  MIRRORSD_TEXT_RULES_QWEN2 = 1,  // vocabulary and merges from the file, all else as Qwen2's
};
int32_t mirrorsd_text_tokenizer_load(const uint8_t* json, size_t json_size, int32_t rules,
                                     MirrorsdTextTokenizer** tokenizer, MirrorsdTextBytes* error);
void mirrorsd_text_tokenizer_free(MirrorsdTextTokenizer* tokenizer);

int32_t mirrorsd_text_encode(const MirrorsdTextTokenizer* tokenizer, const uint8_t* text,
                             size_t text_size, uint8_t add_special_tokens, MirrorsdTextIds* ids,
                             MirrorsdTextBytes* error);

// Ids that the tokenizer does not have yield nothing, as in the reference.
int32_t mirrorsd_text_decode(const MirrorsdTextTokenizer* tokenizer, const uint32_t* ids,
                             size_t num_ids, uint8_t skip_special_tokens, MirrorsdTextBytes* text,
                             MirrorsdTextBytes* error);

// Whole vocabulary, by increasing id, as records {u32 id, u8 flags, u32 size, size bytes},
// little-endian.
enum {
  MIRRORSD_TEXT_TOKEN_SPECIAL = 1,  // left out by skip_special_tokens
  MIRRORSD_TEXT_TOKEN_BYTE = 2,     // a byte-fallback token: its one byte
};
int32_t mirrorsd_text_vocabulary(const MirrorsdTextTokenizer* tokenizer, MirrorsdTextBytes* records,
                                 MirrorsdTextBytes* error);

// How the decoder puts tokens together, so that C++ can do it one token at a time.
enum {
  MIRRORSD_TEXT_SCHEME_WINDOWED = 0,   // anything else: decode a window and compare
  MIRRORSD_TEXT_SCHEME_BYTES = 1,      // bytes are joined, then read as UTF-8 (byte-level BPE)
  MIRRORSD_TEXT_SCHEME_BYTE_RUNS = 2,  // texts joined; a run of byte tokens is UTF-8 or all U+FFFD
};
typedef struct {
  int32_t scheme;
  uint32_t strip_leading_spaces;  // spaces dropped from the front of the whole text (BYTE_RUNS)
} MirrorsdTextDecodeScheme;
MirrorsdTextDecodeScheme mirrorsd_text_decode_scheme(const MirrorsdTextTokenizer* tokenizer);

// `source` is a Jinja template as transformers renders it: trim_blocks, lstrip_blocks, loop
// controls.
int32_t mirrorsd_text_template_compile(const uint8_t* source, size_t source_size,
                                       MirrorsdTextTemplate** chat_template,
                                       MirrorsdTextBytes* error);
void mirrorsd_text_template_free(MirrorsdTextTemplate* chat_template);

// `messages` is a JSON list; `tools` a JSON list or empty (none); `variables` a JSON object with
// everything else that the template may name. `now_unix_s` is what strftime_now tells, in UTC.
int32_t mirrorsd_text_template_render(const MirrorsdTextTemplate* chat_template,
                                      const uint8_t* messages, size_t messages_size,
                                      const uint8_t* tools, size_t tools_size,
                                      const uint8_t* variables, size_t variables_size,
                                      int64_t now_unix_s, MirrorsdTextBytes* text,
                                      MirrorsdTextBytes* error);

#ifdef __cplusplus
}  // extern "C"
#endif
