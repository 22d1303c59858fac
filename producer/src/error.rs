//! What the outcomes of this crate's parts are to whoever runs a producer.
//!
//! The parts have errors of their own that say where and why; at the seams they become the errors of
//! [`hydrant_core`], whose disposition decides the exit code. An input that cannot be opened, or is
//! no NDJSON, is a refusal: nothing was done. One that fails on its way has failed, with what came
//! before it stored.

use hydrant_core::Error;

use crate::input::InputError;
use crate::simulate::FleetError;

impl From<FleetError> for Error {
    fn from(error: FleetError) -> Self {
        Error::refused(error.to_string())
    }
}

impl From<InputError> for Error {
    fn from(error: InputError) -> Self {
        let refused = !matches!(error, InputError::Read { .. });
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        if refused {
            Error::refused(message)
        } else {
            Error::fatal(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use hydrant_core::Disposition;

    use super::*;

    #[test]
    fn an_input_that_fails_on_its_way_is_no_refusal() {
        let source = || io::Error::other("cable pulled");
        let name = || "in.ndjson".to_owned();
        let open = Error::from(InputError::Open {
            name: name(),
            remedy: "check the path",
            source: Some(source()),
        });
        assert_eq!(open.disposition(), Disposition::Refused);
        assert!(open.to_string().contains("cable pulled"));
        let absent = crate::input::file::check(std::path::Path::new("absent")).unwrap_err();
        assert_eq!(
            Error::from(absent).to_string(),
            "cannot open `absent`: there is no such file; check the path, or use `-` for standard input"
        );
        let read = Error::from(InputError::Read {
            name: name(),
            line: 7,
            source: source(),
        });
        assert_eq!(read.disposition(), Disposition::Fatal);
        let message = read.to_string();
        assert!(
            message.contains("line 7") && message.contains("cable pulled"),
            "{message}"
        );
    }
}
