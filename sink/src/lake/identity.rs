//! The identity of a table.
//!
//! Owns the object that holds it: the first process that opens the table draws a random identity and puts it once; it
//! is never replaced. Promises that a recreated lake has a new identity and that a moved lake keeps its own. A copy of
//! a whole lake holds the same object; the location distinguishes the two, see [`locate`].
//!
//! [`locate`]: super::Lakes::locate

use bytes::Bytes;
use hydrant_core::lake::{Put, SharedLake};
use hydrant_core::retry::retry_forever;
use hydrant_core::{Random, Result};
use serde::{Deserialize, Serialize};

use super::commit::{seal_body, unseal_body};
use super::error::ObjectError;
use super::names::TableNames;

/// The newest version of [`Identity`].
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    version: u32,
    id: String,
}

/// Reads the identity of a table. A table without an identity gets one.
///
/// # Errors
/// Those of the lake; fatal when the object is damaged.
pub(crate) async fn identify(
    lake: &SharedLake,
    names: &TableNames,
    random: &Random,
) -> Result<String> {
    let key = names.identity();
    if let Some(body) = lake.get(&key).await? {
        return Ok(read(&key, &body)?);
    }
    let mine = Identity {
        version: VERSION,
        id: random.identity(),
    };
    let body = seal_body(&mine);
    let put = retry_forever("put a table's identity", random, || {
        lake.put_new(&key, body.clone())
    });
    match put.await? {
        Put::Created => Ok(mine.id),
        Put::Exists(found) => Ok(read(&key, &found)?),
    }
}

fn read(key: &str, body: &Bytes) -> Result<String, ObjectError> {
    Ok(unseal_body::<Identity>(key, body, VERSION)?.id)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hydrant_testing::memory::MemoryLake;

    use super::*;

    #[tokio::test]
    async fn a_table_keeps_the_identity_that_it_got_first() {
        let lake: SharedLake = Arc::new(MemoryLake::new());
        let (a, b) = (Random::seeded(1), Random::seeded(2));
        let table = |name| TableNames::try_new(name).unwrap();
        let first = identify(&lake, &table("a"), &a).await.unwrap();
        assert_eq!(identify(&lake, &table("a"), &b).await.unwrap(), first);
        assert_ne!(identify(&lake, &table("b"), &a).await.unwrap(), first);
        lake.delete(&table("a").identity()).await.unwrap();
        assert_ne!(identify(&lake, &table("a"), &b).await.unwrap(), first);
        let damaged = bytes::Bytes::from_static(b"{}");
        let other: SharedLake = Arc::new(MemoryLake::new());
        other
            .put_new(&table("a").identity(), damaged)
            .await
            .unwrap();
        assert!(identify(&other, &table("a"), &a).await.is_err());
    }
}
