//! Judges a simulation: what was sent, what was acknowledged, what was found.
//!
//! Every record is a [`Token`] in its payload: who made it, and its number there. In the end each acknowledged record
//! is found exactly once, each found record was sent, none is found twice, and the records of one device stand in the
//! order in which they were sent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::Batch;
use crate::origin::Account;

/// The identity of a record: a device and a number that rises by one from 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Who made it; also a good partition key.
    pub device: String,
    /// Which of its records.
    pub number: u64,
}

impl Token {
    /// A JSON object that holds the token, and `padding` more bytes.
    pub fn payload(&self, padding: usize) -> String {
        let pad = "x".repeat(padding);
        format!(
            "{{\"device\":\"{}\",\"n\":{},\"pad\":\"{pad}\"}}",
            self.device, self.number
        )
    }

    /// The token of a payload.
    pub fn of(payload: &[u8]) -> Option<Token> {
        let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
        Some(Token {
            device: value.get("device")?.as_str()?.to_owned(),
            number: value.get("n")?.as_u64()?,
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.number)
    }
}

#[derive(Debug, Default)]
struct Ledger {
    /// How many records each device sent.
    sent: BTreeMap<String, u64>,
    acknowledged: BTreeMap<Token, ()>,
    found: BTreeMap<Token, u32>,
    /// For each device the last number found, where order counts.
    last_found: BTreeMap<String, u64>,
    faults: Vec<String>,
}

/// A shared oracle; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    ledger: Arc<Mutex<Ledger>>,
}

/// How records are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In the order of their device.
    Kept,
    /// In any order, for example over the files of several partitions.
    Any,
}

impl Oracle {
    /// Nothing sent.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next record of a device, which is sent now.
    pub fn send(&self, device: &str) -> Token {
        let mut ledger = self.lock();
        let next = ledger.sent.entry(device.to_owned()).or_default();
        let number = *next;
        *next += 1;
        Token {
            device: device.to_owned(),
            number,
        }
    }

    /// The record was acknowledged: from now on it must not be lost.
    pub fn acknowledge(&self, token: &Token) {
        let mut ledger = self.lock();
        if !ledger.has_sent(token) {
            ledger
                .faults
                .push(format!("{token} was acknowledged and never sent"));
        }
        ledger.acknowledged.insert(token.clone(), ());
    }

    /// A record was found at the end of the way.
    pub fn find(&self, payload: &[u8], order: Order) {
        let mut ledger = self.lock();
        let Some(token) = Token::of(payload) else {
            let len = payload.len();
            ledger.faults.push(format!(
                "a payload of {len} bytes was found that nobody sent"
            ));
            return;
        };
        if !ledger.has_sent(&token) {
            ledger
                .faults
                .push(format!("{token} was found and never sent"));
        }
        if order == Order::Kept {
            let last = ledger.last_found.insert(token.device.clone(), token.number);
            if let Some(last) = last.filter(|last| *last >= token.number) {
                ledger
                    .faults
                    .push(format!("{token} was found after number {last}"));
            }
        }
        *ledger.found.entry(token).or_default() += 1;
    }

    /// The records and accounts of a batch were found.
    pub fn find_batch(&self, batch: &Batch, order: Order) {
        for entry in &batch.records {
            self.find(batch.payload(entry), order);
        }
        for span in &batch.accounts {
            self.find_account(&span.account);
        }
    }

    /// An account was found: its sum must hold.
    pub fn find_account(&self, account: &Account) {
        if !account.balances() {
            self.lock().faults.push(format!(
                "an account does not balance: {} in, {} records, {} dead letters, {:?} dropped",
                account.input,
                account.records,
                account.letters.len(),
                account.dropped
            ));
        }
    }

    /// Another fault, in words.
    pub fn fault(&self, what: impl Into<String>) {
        self.lock().faults.push(what.into());
    }

    /// Forgets what was found, to look again.
    pub fn look_again(&self) {
        let mut ledger = self.lock();
        ledger.found.clear();
        ledger.last_found.clear();
    }

    /// How many records were sent, acknowledged and found.
    pub fn counts(&self) -> (u64, u64, u64) {
        let ledger = self.lock();
        (
            ledger.sent.values().sum(),
            ledger.acknowledged.len() as u64,
            ledger.found.values().map(|times| u64::from(*times)).sum(),
        )
    }

    /// Whether every acknowledged record has been found.
    pub fn is_complete(&self) -> bool {
        let ledger = self.lock();
        ledger
            .acknowledged
            .keys()
            .all(|token| ledger.found.contains_key(token))
    }

    /// What is wrong; empty when nothing is. At most the first twenty faults are told.
    pub fn faults(&self) -> Vec<String> {
        const TOLD: usize = 20;
        let ledger = self.lock();
        let doubled = ledger.found.iter().filter(|(_, times)| **times > 1);
        let lost = ledger
            .acknowledged
            .keys()
            .filter(|token| !ledger.found.contains_key(*token));
        ledger
            .faults
            .iter()
            .cloned()
            .chain(doubled.map(|(token, times)| format!("{token} was found {times} times")))
            .chain(lost.map(|token| format!("{token} was acknowledged and is lost")))
            .take(TOLD)
            .collect()
    }

    /// Panics with the seed when something is wrong.
    pub fn judge(&self, seed: u64) {
        let faults = self.faults();
        assert!(faults.is_empty(), "seed {seed}: {}", faults.join("\n  "));
    }
}

impl Ledger {
    fn has_sent(&self, token: &Token) -> bool {
        self.sent
            .get(&token.device)
            .is_some_and(|count| token.number < *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(numbers: &[u64], order: Order) -> Vec<String> {
        let oracle = Oracle::new();
        for _ in 0..3 {
            let token = oracle.send("d");
            if token.number < 2 {
                oracle.acknowledge(&token);
            }
        }
        for number in numbers {
            let device = "d".to_owned();
            let token = Token {
                device,
                number: *number,
            };
            oracle.find(token.payload(10).as_bytes(), order);
        }
        oracle.faults()
    }

    #[test]
    fn it_tells_losses_doubles_strangers_and_disorder() {
        assert!(found(&[0, 1], Order::Kept).is_empty());
        assert!(found(&[0, 1, 2], Order::Kept).is_empty());
        assert!(found(&[2, 0, 1], Order::Any).is_empty());
        assert_eq!(
            found(&[1], Order::Kept),
            ["d/0 was acknowledged and is lost"]
        );
        assert_eq!(found(&[0, 1, 1], Order::Any), ["d/1 was found 2 times"]);
        assert_eq!(
            found(&[1, 0], Order::Kept),
            ["d/0 was found after number 1"]
        );
        assert_eq!(
            found(&[0, 1, 9], Order::Kept),
            ["d/9 was found and never sent"]
        );
        let oracle = Oracle::new();
        oracle.find(b"no token", Order::Any);
        let account = Account {
            input: 2,
            records: 1,
            ..Account::default()
        };
        oracle.find_account(&account);
        assert_eq!(oracle.faults().len(), 2);
        assert!(std::panic::catch_unwind(|| oracle.judge(7)).is_err());
    }
}
