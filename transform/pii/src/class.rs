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
    /// All classes.
    pub const ALL: [Self; 14] = [
        Self::Card,
        Self::Ssn,
        Self::Iban,
        Self::Jwt,
        Self::AwsKey,
        Self::Email,
        Self::Ip,
        Self::Mac,
        Self::Phone,
        Self::BirthDate,
        Self::Name,
        Self::Address,
        Self::Geo,
        Self::Custom,
    ];

    /// Its name, and the text that replaces a value of it.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Card => ("card", "[CARD]"),
            Self::Ssn => ("ssn", "[SSN]"),
            Self::Iban => ("iban", "[IBAN]"),
            Self::Jwt => ("jwt", "[JWT]"),
            Self::AwsKey => ("aws-key", "[AWS_KEY]"),
            Self::Email => ("email", "[EMAIL]"),
            Self::Ip => ("ip", "[IP]"),
            Self::Mac => ("mac", "[MAC]"),
            Self::Phone => ("phone", "[PHONE]"),
            Self::BirthDate => ("birth-date", "[BIRTH_DATE]"),
            Self::Name => ("name", "[NAME]"),
            Self::Address => ("address", "[ADDRESS]"),
            Self::Geo => ("geo", "[GEO]"),
            Self::Custom => ("custom", "[REDACTED]"),
        }
    }

    /// The name in policies and reports.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// The text that replaces a value when the rule names no other.
    pub fn label(self) -> &'static str {
        self.words().1
    }

    /// Whether no list and no rule may let a value of this class pass.
    pub fn must_redact(self) -> bool {
        matches!(self, Self::Card | Self::Ssn | Self::Jwt | Self::AwsKey)
    }

    /// The class with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_order_of_classes_agree() {
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
            assert_eq!(Class::by_name(class.name()), Some(class));
            assert_eq!(
                serde_json::to_string(&class).unwrap(),
                format!("{:?}", class.name())
            );
        }
    }
}
