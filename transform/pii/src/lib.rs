//! The PII engine: bytes in, bytes out and findings; synchronous and pure.
