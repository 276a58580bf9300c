//! Masks the text of a statement that may hold a secret in place.

use super::activity;
use super::text::{
    MOST_BYTES, backslashes, go_on_with, hash_of, holds_secret, is_from_client, is_hidden, is_known_hidden,
    is_secret, note_call, note_hidden,
};
use integration_credentials_core::buffer::Buffer;
use integration_credentials_core::sql_text::{blank, mask, tokens_of};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::mem::ManuallyDrop;
use std::ptr;

/// Masks a statement after its analysis, from which on its text is only shown. For a text that is not the
/// client's, returns a masked copy to be shown instead.
///
/// # Safety
/// `state` is the state of the analysis.
pub unsafe fn analyzed(state: &pg_sys::ParseState) -> Option<*const c_char> {
    let source = state.p_sourcetext;
    if source.is_null() {
        return None;
    }
    // SAFETY: a C string by its definition. Postgres parses all of the client's text before it analyzes any
    // of it.
    unsafe {
        let is_secret = is_secret(source);
        activity::note_analyzed(is_secret);
        let is_from_client = is_from_client(source);
        if is_from_client {
            go_on_with(false);
        }
        if !is_secret {
            return None;
        }
        note_call();
        if is_from_client {
            mask_in_place(source);
            return None;
        }
        mask_copies(source);
        masked_copy(source, pg_sys::CurrentMemoryContext)
    }
}

/// Masks the client's statement in place, its copies, and `pg_stat_activity`.
///
/// # Safety
/// `text` is from the client, and will not be parsed any more.
pub unsafe fn mask_in_place(text: *const c_char) {
    // SAFETY: the caller vouches for the text. It is in a message buffer or in the memory of a plan, both of
    // which are writable, and no Rust reference to it exists.
    unsafe {
        if is_secret(text) && is_known_hidden() {
            return;
        }
        let length = CStr::from_ptr(text).count_bytes();
        if !is_hidden(CStr::from_ptr(text).to_bytes()) {
            mask_copies(text);
            mask_known(std::slice::from_raw_parts_mut(text.cast_mut().cast(), length));
            activity::report(text);
        }
        note_hidden(text);
    }
}

/// Masks a text so that it is still recognized as a call and has the same tokens, or else blanks it.
fn mask_known(text: &mut [u8]) {
    if text.len() > MOST_BYTES {
        return blank(text);
    }
    let tokens = tokens_of(text, backslashes());
    mask(text, backslashes());
    if !holds_secret(text) || tokens_of(text, backslashes()) != tokens {
        blank(text);
    }
}

/// Masks the copy of a plan that will be cached. The plan has no name yet by which it could be found, but the
/// copy is the identifier of its memory context.
unsafe fn mask_copies(text: *const c_char) {
    // SAFETY: memory contexts form trees, which do not change during the walk. The identifier of a context
    // with this name is the text of its plan.
    unsafe {
        let text = CStr::from_ptr(text);
        for root in [pg_sys::MessageContext, pg_sys::CurrentMemoryContext] {
            for context in contexts(root) {
                let (name, copy) = (context.name, context.ident.cast_mut());
                if !name.is_null()
                    && CStr::from_ptr(name) == c"CachedPlanSource"
                    && !copy.is_null()
                    && !ptr::eq(copy, text.as_ptr())
                    && CStr::from_ptr(copy) == text
                {
                    mask_known(std::slice::from_raw_parts_mut(copy.cast(), text.count_bytes()));
                }
            }
        }
    }
}

/// A memory context and its descendants, walked by the links of the tree, so that the stack stays constant.
unsafe fn contexts(root: pg_sys::MemoryContext) -> impl Iterator<Item = &'static pg_sys::MemoryContextData> {
    // SAFETY: the caller vouches for the tree, which does not change while it is walked.
    let valid = |context: pg_sys::MemoryContext| unsafe { context.as_ref() };
    std::iter::successors(valid(root), move |&context| {
        valid(context.firstchild).or_else(|| {
            let up = std::iter::successors(Some(context), |&context| valid(context.parent));
            up.take_while(|context| !ptr::eq(*context, root)).find_map(|context| valid(context.nextchild))
        })
    })
}

/// Frees a copy.
///
/// # Safety
/// Nothing refers to the copy any more.
pub unsafe fn free_copy(copy: *const c_char) {
    // SAFETY: the caller vouches for the copy.
    unsafe { pg_sys::pfree(copy.cast_mut().cast()) };
}

/// A masked copy of a text, of the same length, in a memory context; `None` where the text shows no secret.
///
/// # Safety
/// `text` is NULL or a C string, and `context` a memory context.
pub unsafe fn masked_copy(text: *const c_char, context: pg_sys::MemoryContext) -> Option<*const c_char> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller vouches for both.
    unsafe {
        let is_shown = is_secret(text)
            && !(is_from_client(text) && is_known_hidden())
            && !is_hidden(CStr::from_ptr(text).to_bytes());
        if is_shown { copy_masked(text, context) } else { None }
    }
}

/// A text by its hash, and its copy.
type Copied = Option<(u64, Vec<u8>)>;

thread_local! {
    /// The last copied text, because a text may hold thousands of statements. Never dropped.
    static LAST_COPY: RefCell<ManuallyDrop<Copied>> = const { RefCell::new(ManuallyDrop::new(None)) };
}

/// Without memory for a copy the text stays: a replacement of another length would break the positions in it.
unsafe fn copy_masked(text: *const c_char, context: pg_sys::MemoryContext) -> Option<*const c_char> {
    // SAFETY: the caller vouches for both.
    unsafe {
        let text = CStr::from_ptr(text).to_bytes_with_nul();
        let flags = (pg_sys::MCXT_ALLOC_NO_OOM | pg_sys::MCXT_ALLOC_HUGE).cast_signed();
        let copy = pg_sys::MemoryContextAllocExtended(context, text.len(), flags);
        if copy.is_null() {
            return None;
        }
        let copy = std::slice::from_raw_parts_mut(copy.cast::<u8>(), text.len());
        let hash = hash_of(text);
        LAST_COPY.with_borrow_mut(|last| match &**last {
            Some((same, masked)) if *same == hash && masked.len() == text.len() => {
                copy.copy_from_slice(masked);
            }
            _ => {
                copy.copy_from_slice(text);
                if let Some((_, text)) = copy.split_last_mut() {
                    mask_known(text);
                }
                **last = cacheable(copy).map(|masked| (hash, masked));
            }
        });
        Some(copy.as_ptr().cast())
    }
}

/// A copy to cache, if it is not too long.
fn cacheable(masked: &[u8]) -> Option<Vec<u8>> {
    const MOST: usize = 1 << 20;
    let mut copy = Buffer::with_room(masked.len()).ok().filter(|_| masked.len() <= MOST)?;
    copy.push(masked).ok()?;
    Some(copy.into_bytes())
}
