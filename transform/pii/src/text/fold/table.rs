//! Folds characters to the ASCII characters that they look like.

/// What separates, where nothing can be shown.
pub(super) const SEPARATOR: u8 = 0x1a;

/// What becomes of a character.
#[derive(Clone, Copy)]
pub(super) enum Fold {
    Keep,
    Drop,
    To(u8),
}

/// The zeros of the decimal digits of other scripts; nine more digits follow each.
const ZEROS: [u32; 51] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66,
    0x0de6, 0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650,
    0x116c0, 0x11730, 0x118e0, 0x1e950, 0x1fbf0,
];

/// What `character` is folded to.
pub(super) fn folded(character: char) -> Fold {
    let code = u32::from(character);
    match code {
        0 => Fold::To(SEPARATOR),
        0x01..=0x7f => Fold::Keep,
        // Characters without width, marks of direction, variation selectors, tags.
        0xad
        | 0x34f
        | 0x61c
        | 0x115f
        | 0x1160
        | 0x17b4
        | 0x17b5
        | 0x180b..=0x180f
        | 0x200b..=0x200f
        | 0x202a..=0x202e
        | 0x2060..=0x206f
        | 0x3164
        | 0xfe00..=0xfe0f
        | 0xfeff
        | 0xffa0
        | 0xe0000..=0xe01ef => Fold::Drop,
        // Spaces and line ends.
        0x85 | 0xa0 | 0x1680 | 0x2000..=0x200a | 0x2028 | 0x2029 | 0x202f | 0x205f | 0x3000 => {
            Fold::To(b' ')
        }
        // Dashes and minus signs.
        0x58a
        | 0x5be
        | 0x1806
        | 0x2010..=0x2015
        | 0x2043
        | 0x207b
        | 0x208b
        | 0x2212
        | 0x2e3a
        | 0x2e3b
        | 0x30a0
        | 0xfe31
        | 0xfe32
        | 0xfe58
        | 0xfe63 => Fold::To(b'-'),
        0x2024 | 0x3002 | 0xfe52 | 0xff61 => Fold::To(b'.'),
        0x2236 | 0xa789 | 0xfe13 | 0xfe55 => Fold::To(b':'),
        0x2044 | 0x2215 => Fold::To(b'/'),
        0x207a | 0x208a | 0xfe62 => Fold::To(b'+'),
        0x207d | 0x208d | 0xfe59 => Fold::To(b'('),
        0x207e | 0x208e | 0xfe5a => Fold::To(b')'),
        0xfe6b => Fold::To(b'@'),
        0xff01..=0xff5e => Fold::To(ascii(code - 0xfee0)),
        0xb9 => Fold::To(b'1'),
        0xb2 | 0xb3 => Fold::To(ascii(code - 0xb2 + 0x32)),
        0x2070 | 0x2074..=0x2079 => Fold::To(ascii(code - 0x2070 + 0x30)),
        0x2080..=0x2089 => Fold::To(ascii(code - 0x2080 + 0x30)),
        0x2460..=0x2468 => Fold::To(ascii(code - 0x2460 + 0x31)),
        0x24ea => Fold::To(b'0'),
        // Mathematical letters and digits.
        0x1d400..=0x1d6a3 => match (code - 0x1d400) % 52 {
            capital @ 0..26 => Fold::To(ascii(capital + 0x41)),
            small => Fold::To(ascii(small - 26 + 0x61)),
        },
        0x1d7ce..=0x1d7ff => Fold::To(ascii((code - 0x1d7ce) % 10 + 0x30)),
        _ => {
            let after = ZEROS.partition_point(|&zero| zero <= code);
            match after.checked_sub(1).map(|index| code - ZEROS[index]) {
                Some(digit @ 0..=9) => Fold::To(ascii(digit + 0x30)),
                _ => Fold::Keep,
            }
        }
    }
}

fn ascii(code: u32) -> u8 {
    u8::try_from(code).expect("every rule above yields ASCII")
}

#[cfg(test)]
#[test]
fn the_zeros_are_in_order() {
    assert!(ZEROS.is_sorted());
}
