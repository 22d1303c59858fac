//! The classes of personal data, as policies and reports name them.

use serde::Serialize;

/// A class of personal data, as policies name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Class {
    /// Payment card numbers.
    Card,
    /// US social security and individual taxpayer numbers.
    Ssn,
    /// International bank account numbers.
    Iban,
    /// JSON Web Tokens.
    Jwt,
    /// AWS access key ids and secret keys.
    AwsKey,
    /// E-mail addresses.
    Email,
    /// IP addresses.
    Ip,
    /// Hardware addresses.
    Mac,
    /// Phone numbers.
    Phone,
    /// Birth dates.
    BirthDate,
    /// Names of persons.
    Name,
    /// Streets and postal addresses.
    Address,
    /// Coordinates.
    Geo,
    /// Values that a policy names by path or key.
    Custom,
}

impl Class {
    /// All classes in their order, each with its name and the text that replaces a value of it.
    const WORDS: [(Self, &'static str, &'static str); Self::COUNT] = [
        (Self::Card, "card", "[CARD]"),
        (Self::Ssn, "ssn", "[SSN]"),
        (Self::Iban, "iban", "[IBAN]"),
        (Self::Jwt, "jwt", "[JWT]"),
        (Self::AwsKey, "aws-key", "[AWS_KEY]"),
        (Self::Email, "email", "[EMAIL]"),
        (Self::Ip, "ip", "[IP]"),
        (Self::Mac, "mac", "[MAC]"),
        (Self::Phone, "phone", "[PHONE]"),
        (Self::BirthDate, "birth-date", "[BIRTH_DATE]"),
        (Self::Name, "name", "[NAME]"),
        (Self::Address, "address", "[ADDRESS]"),
        (Self::Geo, "geo", "[GEO]"),
        (Self::Custom, "custom", "[REDACTED]"),
    ];
    /// How many classes there are.
    pub(crate) const COUNT: usize = 14;

    /// All classes.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::WORDS.into_iter().map(|(class, ..)| class)
    }

    /// The name in policies and reports.
    pub fn name(self) -> &'static str {
        Self::WORDS[self as usize].1
    }

    /// The text that replaces a value when the rule names no other.
    pub fn label(self) -> &'static str {
        Self::WORDS[self as usize].2
    }

    /// Whether no list and no rule may let a value of this class pass.
    pub fn must_redact(self) -> bool {
        matches!(self, Self::Card | Self::Ssn | Self::Jwt | Self::AwsKey)
    }

    /// The class with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().find(|class| class.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_order_of_classes_agree() {
        for (index, class) in Class::all().enumerate() {
            assert_eq!(class as usize, index);
            assert_eq!(Class::by_name(class.name()), Some(class));
            assert_eq!(
                serde_json::to_string(&class).unwrap(),
                format!("{:?}", class.name())
            );
        }
    }
}
