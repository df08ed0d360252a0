//! Hugging Face tokenizers and Jinja chat templates behind the C ABI of text_abi.h, which documents
//! every function here. This file only moves arguments; the work is in `vocabulary` and `chat`.
#![allow(clippy::missing_safety_doc)] // The contract of every function stands in text_abi.h.

mod abi;
mod chat;
mod python;
mod strftime;
mod vocabulary;

use abi::{guard, slice, text, Bytes, Failure, Ids};
use chat::ChatTemplate;
use vocabulary::{DecodeScheme, LoadedTokenizer};

const RULES_QWEN2: i32 = 1;

#[no_mangle]
pub unsafe extern "C" fn mirrorsd_text_bytes_free(bytes: Bytes) {
    bytes.free();
}

#[no_mangle]
pub unsafe extern "C" fn mirrorsd_text_ids_free(ids: Ids) {
    ids.free();
}

#[no_mangle]
pub unsafe extern "C" fn mirrorsd_text_tokenizer_load(
    json: *const u8,
    json_size: usize,
    rules: i32,
    tokenizer: *mut *mut LoadedTokenizer,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let json = text(json, json_size)?;
        tokenizer
            .write(Box::into_raw(Box::new(LoadedTokenizer::load(json.as_bytes(), rules == RULES_QWEN2)?)));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mirrorsd_text_tokenizer_free(tokenizer: *mut LoadedTokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}

#[no_mangle]
pub unsafe extern "C" fn mirrorsd_text_encode(
    tokenizer: *const LoadedTokenizer,
    input: *const u8,
    input_size: usize,
    add_special_tokens: u8,
    ids: *mut Ids,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let input = text(input, input_size)?;
        ids.write(Ids::from((*tokenizer).encode(input, add_special_tokens != 0)?));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mirrorsd_text_decode(
    tokenizer: *const LoadedTokenizer,
    ids: *const u32,
    num_ids: usize,
    skip_special_tokens: u8,
    output: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let decoded = (*tokenizer).decode(slice(ids, num_ids), skip_special_tokens != 0)?;
        output.write(Bytes::from(decoded.into_bytes()));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mirrorsd_text_vocabulary(
    tokenizer: *const LoadedTokenizer,
    records: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        records.write(Bytes::from((*tokenizer).vocabulary()?));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mirrorsd_text_decode_scheme(tokenizer: *const LoadedTokenizer) -> DecodeScheme {
    (*tokenizer).scheme()
}

#[no_mangle]
pub unsafe extern "C" fn mirrorsd_text_template_compile(
    source: *const u8,
    source_size: usize,
    chat_template: *mut *mut ChatTemplate,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let source = text(source, source_size)?;
        chat_template.write(Box::into_raw(Box::new(ChatTemplate::compile(source)?)));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mirrorsd_text_template_free(chat_template: *mut ChatTemplate) {
    if !chat_template.is_null() {
        drop(Box::from_raw(chat_template));
    }
}

#[no_mangle]
pub unsafe extern "C" fn mirrorsd_text_template_render(
    chat_template: *const ChatTemplate,
    messages: *const u8,
    messages_size: usize,
    tools: *const u8,
    tools_size: usize,
    variables: *const u8,
    variables_size: usize,
    now_unix_s: i64,
    output: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let with_code = |code| move |failure: Failure| Failure { code, ..failure };
        let messages = text(messages, messages_size).map_err(with_code(abi::INVALID_MESSAGES))?;
        let tools = text(tools, tools_size).map_err(with_code(abi::INVALID_TOOLS))?;
        let variables = text(variables, variables_size)?;
        let rendered = (*chat_template).render(messages, tools, variables, now_unix_s)?;
        output.write(Bytes::from(rendered));
        Ok(())
    })
}
