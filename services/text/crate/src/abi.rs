//! What crosses the C boundary: owned buffers, codes, and the guard that turns errors and panics into
//! a code with a message. Nothing here knows tokenizers or templates.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

pub const OK: i32 = 0;
pub const INVALID: i32 = 1;
pub const RAISED: i32 = 2;
pub const INVALID_MESSAGES: i32 = 3;
pub const INVALID_TOOLS: i32 = 4;
pub const PANIC: i32 = 5;

#[repr(C)]
pub struct Bytes {
    data: *mut u8,
    size: usize,
}

#[repr(C)]
pub struct Ids {
    data: *mut u32,
    size: usize,
}

/// A code and what to tell a person.
#[derive(Debug)]
pub struct Failure {
    pub code: i32,
    pub message: String,
}

impl Failure {
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Failure { code, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Failure::new(INVALID, message)
    }
}

fn leak<T>(values: Vec<T>) -> (*mut T, usize) {
    if values.is_empty() {
        return (std::ptr::null_mut(), 0);
    }
    let values = Box::leak(values.into_boxed_slice());
    (values.as_mut_ptr(), values.len())
}

unsafe fn reclaim<T>(data: *mut T, size: usize) {
    if !data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(data, size)));
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let (data, size) = leak(bytes);
        Bytes { data, size }
    }
}

impl Bytes {
    /// # Safety
    /// `self` came from this crate and is not used again.
    pub unsafe fn free(self) {
        reclaim(self.data, self.size);
    }
}

impl From<Vec<u32>> for Ids {
    fn from(ids: Vec<u32>) -> Self {
        let (data, size) = leak(ids);
        Ids { data, size }
    }
}

impl Ids {
    /// # Safety
    /// `self` came from this crate and is not used again.
    pub unsafe fn free(self) {
        reclaim(self.data, self.size);
    }
}

/// # Safety
/// `data` points to `size` values, or `size` is 0.
pub unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 || data.is_null() {
        return &[];
    }
    std::slice::from_raw_parts(data, size)
}

/// # Safety
/// As `slice`.
pub unsafe fn text<'a>(data: *const u8, size: usize) -> Result<&'a str, Failure> {
    std::str::from_utf8(slice(data, size))
        .map_err(|e| Failure::invalid(format!("not UTF-8 at byte {}", e.valid_up_to())))
}

static QUIET_PANICS: Once = Once::new();

/// Runs `work`; on failure stores the message in `*error` and returns its code.
///
/// # Safety
/// `error` is null or may be written.
pub unsafe fn guard(error: *mut Bytes, work: impl FnOnce() -> Result<(), Failure>) -> i32 {
    // The hook would write to stderr, past the process's own log; the message is returned instead.
    QUIET_PANICS.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return OK,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let told = payload
                .downcast_ref::<&str>()
                .map(|text| text.to_string())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_string());
            Failure::new(PANIC, format!("internal error of the text library: {told}"))
        }
    };
    if !error.is_null() {
        error.write(Bytes::from(failure.message.into_bytes()));
    }
    failure.code
}
