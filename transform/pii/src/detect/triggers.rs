//! Cheap conditions without which no detector looks at a text.

use crate::keys::Evidence;
use crate::text::byte_classes::{
    self, AT, CAPITAL, CAPITAL_A, CAPITAL_J, COLON, Classes, DIGIT, DOT,
};
use crate::text::windows;

/// Classes of what has to be undone before anything can be found.
pub(crate) const NOTED: Classes = byte_classes::HIGH | byte_classes::ESCAPE | byte_classes::PERCENT;

/// Whether a text of this evidence is a time, in which no detector finds anything.
pub(crate) fn is_timestamp(text: &[u8], evidence: Evidence) -> bool {
    !evidence.has(WHOLE_VALUES) && windows::is_timestamp(text)
}

/// Whether any detector could look at a scalar of these classes, this length and this evidence.
pub(crate) fn worth_a_look(classes: Classes, length: usize, evidence: Evidence) -> bool {
    evidence.has(WHOLE_VALUES)
        || classes & (AT | NOTED | byte_classes::EQUALS) != 0
        || classes & COLON != 0 && length >= 3
        || classes & DIGIT != 0 && length >= 7
        || classes & CAPITAL_J != 0 && length >= 20
        || classes & CAPITAL_A != 0 && length >= 20
        || length >= 12
            && (classes & byte_classes::HEX_LETTER != 0
                && classes & (byte_classes::DASH | DOT) != 0
                || length >= 40 && classes & CAPITAL != 0)
}

/// Whether no detector looks at a number of this length and evidence.
pub(crate) fn number_is_short(length: usize, evidence: Evidence) -> bool {
    length < 12 && !evidence.has(WHOLE_VALUES)
}

/// Evidence that alone makes a value worth a look.
pub(crate) const WHOLE_VALUES: Evidence = Evidence::NAME
    .with(Evidence::SCALED)
    .with(Evidence::STREET)
    .with(Evidence::BIRTH_DATE)
    .with(Evidence::COORDINATE)
    .with(Evidence::COORDINATES)
    .with(Evidence::PLACE)
    .with(Evidence::MAC)
    .with(Evidence::SSN)
    .with(Evidence::CARD)
    .with(Evidence::PHONE)
    .with(Evidence::DIALLED)
    .with(Evidence::NEAR_PHONE)
    .with(Evidence::IP)
    .with(Evidence::SECRET)
    .with(Evidence::EMAIL);
