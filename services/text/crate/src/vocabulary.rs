//! A tokenizer.json, loaded: encode, decode, and what one token stands for by itself.

use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{Decoder, SplitDelimiterBehavior, Tokenizer};

use crate::abi::Failure;

const FLAG_SPECIAL: u8 = 1;
const FLAG_BYTE: u8 = 2;

/// A token id above this is a broken file: no vocabulary comes near it, and tables are sized by it.
const MAX_TOKEN_ID: u32 = 1 << 24;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecodeScheme {
    pub scheme: i32,
    pub strip_leading_spaces: u32,
}

/// How Qwen2 cuts text into words: as GPT-4, but every digit by itself.
const QWEN2_WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const WINDOWED: DecodeScheme = DecodeScheme { scheme: 0, strip_leading_spaces: 0 };
const BYTES: DecodeScheme = DecodeScheme { scheme: 1, strip_leading_spaces: 0 };
const SCHEME_BYTE_RUNS: i32 = 2;

pub struct LoadedTokenizer {
    tokenizer: Tokenizer,
    stages: Vec<DecoderWrapper>,
    scheme: DecodeScheme,
}

fn flatten(decoder: &DecoderWrapper, stages: &mut Vec<DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().for_each(|inner| flatten(inner, stages))
        }
        stage => stages.push(stage.clone()),
    }
}

/// Recognises the two shapes that nearly every language model has; the rest is decoded by windows.
fn find_scheme(stages: &[DecoderWrapper]) -> DecodeScheme {
    if let [DecoderWrapper::ByteLevel(_)] = stages {
        return BYTES;
    }
    let mut rest = stages;
    let mut recognised = false;
    while let [DecoderWrapper::Replace(_), tail @ ..] = rest {
        (rest, recognised) = (tail, true);
    }
    if let [DecoderWrapper::ByteFallback(_), tail @ ..] = rest {
        (rest, recognised) = (tail, true);
    }
    let mut fused = false;
    while let [DecoderWrapper::Fuse(_), tail @ ..] = rest {
        (rest, fused) = (tail, true);
    }
    let mut strip_leading_spaces = 0;
    while let [DecoderWrapper::Strip(strip), tail @ ..] = rest {
        if !fused || strip.content != ' ' || strip.stop != 0 {
            return WINDOWED;
        }
        strip_leading_spaces += strip.start as u32;
        rest = tail;
    }
    if recognised && rest.is_empty() {
        DecodeScheme { scheme: SCHEME_BYTE_RUNS, strip_leading_spaces }
    } else {
        WINDOWED
    }
}

/// The byte that a character of byte-level BPE stands for: printable Latin-1 is itself, the other 68
/// bytes follow one another from U+0100.
fn byte_of(character: char) -> Option<u8> {
    let is_itself = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match character as u32 {
        code @ 0..=0xFF if is_itself(code as u8) => Some(code as u8),
        code @ 0x100..=0x143 => (0..=255u8).filter(|b| !is_itself(*b)).nth(code as usize - 0x100),
        _ => None,
    }
}

fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// What transformers does for Qwen2: only vocabulary and merges of the file count, the rest is fixed.
fn apply_qwen2_rules(tokenizer: &mut Tokenizer) -> tokenizers::Result<()> {
    let words = Split::new(SplitPattern::Regex(QWEN2_WORDS.into()), SplitDelimiterBehavior::Isolated, false)?;
    tokenizer.with_normalizer(Some(NFC));
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        words.into(),
        ByteLevel::new(false, true, false).into(),
    ])));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    if let ModelWrapper::BPE(bpe) = tokenizer.get_model() {
        if bpe.ignore_merges {
            let mut bpe = bpe.clone();
            bpe.ignore_merges = false;
            tokenizer.with_model(bpe);
        }
    }
    Ok(())
}

impl LoadedTokenizer {
    pub fn load(json: &[u8], qwen2_rules: bool) -> Result<Self, Failure> {
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|e| Failure::invalid(e.to_string()))?;
        if qwen2_rules {
            apply_qwen2_rules(&mut tokenizer).map_err(|e| Failure::invalid(e.to_string()))?;
        }
        // A request is refused when it is too long; it is never silently cut or filled up.
        tokenizer.with_truncation(None).map_err(|e| Failure::invalid(e.to_string()))?;
        tokenizer.with_padding(None);
        let mut stages = Vec::new();
        if let Some(decoder) = tokenizer.get_decoder() {
            flatten(decoder, &mut stages);
        }
        let scheme = find_scheme(&stages);
        Ok(LoadedTokenizer { tokenizer, stages, scheme })
    }

    pub fn scheme(&self) -> DecodeScheme {
        self.scheme
    }

    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Failure> {
        self.tokenizer
            .encode_fast(text, add_special_tokens)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|e| Failure::invalid(e.to_string()))
    }

    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, Failure> {
        self.tokenizer.decode(ids, skip_special_tokens).map_err(|e| Failure::invalid(e.to_string()))
    }

    /// What the token adds to a text, and whether it is a byte-fallback token.
    fn token_bytes(&self, token: String) -> Result<(Vec<u8>, bool), Failure> {
        if self.scheme == BYTES {
            let mapped: Option<Vec<u8>> = token.chars().map(byte_of).collect();
            return Ok((mapped.unwrap_or_else(|| token.into_bytes()), false));
        }
        if self.scheme.scheme != SCHEME_BYTE_RUNS {
            return Ok((token.into_bytes(), false));
        }
        let mut text = token;
        for stage in &self.stages {
            match stage {
                DecoderWrapper::Replace(_) => {
                    text =
                        stage.decode_chain(vec![text]).map_err(|e| Failure::invalid(e.to_string()))?.concat()
                }
                DecoderWrapper::ByteFallback(_) => {
                    if let Some(byte) = fallback_byte(&text) {
                        return Ok((vec![byte], true));
                    }
                }
                _ => break,
            }
        }
        Ok((text.into_bytes(), false))
    }

    /// Records of the whole vocabulary as text_abi.h lays them out.
    pub fn vocabulary(&self) -> Result<Vec<u8>, Failure> {
        let mut ids: Vec<u32> = self.tokenizer.get_vocab(true).into_values().collect();
        ids.sort_unstable();
        ids.dedup();
        if let Some(id) = ids.iter().find(|id| **id > MAX_TOKEN_ID) {
            return Err(Failure::invalid(format!("token id {id} is above {MAX_TOKEN_ID}")));
        }
        let added = self.tokenizer.get_added_vocabulary();
        let mut records = Vec::with_capacity(ids.len() * 16);
        for id in ids {
            let Some(token) = self.tokenizer.id_to_token(id) else { continue };
            let special = added.is_special_token(&token);
            let (bytes, is_byte) = self.token_bytes(token)?;
            let flags = if special { FLAG_SPECIAL } else { 0 } | if is_byte { FLAG_BYTE } else { 0 };
            records.extend_from_slice(&id.to_le_bytes());
            records.push(flags);
            records.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            records.extend_from_slice(&bytes);
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_byte_level_character() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<u8> = alphabet.into_iter().filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255u8).collect::<Vec<_>>());
        assert_eq!(byte_of('Ġ'), Some(b' '));
        assert_eq!(byte_of(' '), None);
    }

    #[test]
    fn fallback_tokens_are_two_hex_digits() {
        assert_eq!(fallback_byte("<0xE5>"), Some(0xE5));
        assert_eq!(fallback_byte("<0x8f>"), Some(0x8F));
        assert_eq!(fallback_byte("<0xE>"), None);
        assert_eq!(fallback_byte("<0xE5>>"), None);
    }
}
