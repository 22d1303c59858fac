//! Skips whole values.

use crate::fault::{FaultKind, JsonFault};
use crate::{number, skip_space, string, word};

/// How deep containers may nest in a value that is skipped.
pub const DEPTH_MAX: usize = 1_024;

/// The open containers, one bit each: whether it is an object.
struct OpenContainers {
    objects: [u64; DEPTH_MAX / 64],
    depth: usize,
}

impl OpenContainers {
    fn push(&mut self, object: bool, at: usize) -> Result<(), JsonFault> {
        let Some(bits) = self.objects.get_mut(self.depth / 64) else {
            return Err(JsonFault::new(FaultKind::TOO_DEEP, at));
        };
        let bit = 1 << (self.depth % 64);
        *bits = if object { *bits | bit } else { *bits & !bit };
        self.depth += 1;
        Ok(())
    }

    /// Whether the innermost container is an object; `None` without one.
    fn innermost(&self) -> Option<bool> {
        let index = self.depth.checked_sub(1)?;
        Some(self.objects[index / 64] >> (index % 64) & 1 == 1)
    }
}

/// Checks and skips the value that starts at `at`, of any kind and depth up to [`DEPTH_MAX`]; answers the
/// place behind it. Repeated keys are legal. Needs neither memory nor stack.
///
/// # Errors
/// The text there is not a JSON value.
pub fn value(input: &[u8], mut at: usize) -> Result<usize, JsonFault> {
    let mut open = OpenContainers {
        objects: [0; DEPTH_MAX / 64],
        depth: 0,
    };
    loop {
        at = match input.get(at) {
            Some(b'{') => {
                open.push(true, at)?;
                at = skip_space(input, at + 1);
                if input.get(at) != Some(&b'}') {
                    at = key(input, at)?;
                    continue;
                }
                open.depth -= 1;
                at + 1
            }
            Some(b'[') => {
                open.push(false, at)?;
                at = skip_space(input, at + 1);
                if input.get(at) != Some(&b']') {
                    continue;
                }
                open.depth -= 1;
                at + 1
            }
            Some(b'"') => string(input, at)?.end + 1,
            Some(b'-' | b'0'..=b'9') => number(input, at)?.end,
            Some(b't' | b'f' | b'n') => word(input, at)?.1,
            _ => return Err(JsonFault::new(FaultKind::UNEXPECTED, at)),
        };
        // Behind a value: what closes here, and the comma before the next one.
        loop {
            let Some(object) = open.innermost() else {
                debug_assert!(at <= input.len(), "a value ends in its text");
                return Ok(at);
            };
            at = skip_space(input, at);
            match (input.get(at), object) {
                (Some(b'}'), true) | (Some(b']'), false) => {
                    open.depth -= 1;
                    at += 1;
                }
                (Some(b','), true) => {
                    at = key(input, skip_space(input, at + 1))?;
                    break;
                }
                (Some(b','), false) => {
                    at = skip_space(input, at + 1);
                    break;
                }
                _ => return Err(JsonFault::new(FaultKind::UNEXPECTED, at)),
            }
        }
    }
}

/// Skips a key and its colon; answers where its value starts.
fn key(input: &[u8], at: usize) -> Result<usize, JsonFault> {
    if input.get(at) != Some(&b'"') {
        return Err(JsonFault::new(FaultKind::UNEXPECTED, at));
    }
    let colon = skip_space(input, string(input, at)?.end + 1);
    if input.get(colon) != Some(&b':') {
        return Err(JsonFault::new(FaultKind::UNEXPECTED, colon));
    }
    Ok(skip_space(input, colon + 1))
}
