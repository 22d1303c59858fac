//! Fuzzes one parser: inputs, checks, limits.

use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::cost::Cost;
use crate::coverage::Coverage;
use crate::{FuzzRandom, corpus, cost, mutate, watch};

/// The length of a run without `HYDRANT_FUZZ_SECONDS`.
const SECONDS_DEFAULT: f64 = 1.0;

/// The most inputs that are kept for mutation: a further one replaces an old one.
const POOL_MAX: usize = 4_096;

/// The most inputs that one run adds to a corpus, so that it stays small enough for the repository.
const KEPT_MAX: usize = 100;

/// The longest input that a run adds to a corpus.
const KEPT_BYTES_MAX: usize = 600;

/// The most time for making a failing input smaller.
const SHRINKING: Duration = Duration::from_secs(10);

/// A grammar.
type Make<'a> = &'a dyn Fn(&mut FuzzRandom) -> Vec<u8>;

/// A parser to be fuzzed.
pub struct Target<'a> {
    name: &'static str,
    tokens: Vec<&'a [u8]>,
    make: Option<Make<'a>>,
    bytes_max: usize,
    time: (Duration, Duration),
    memory: (usize, usize),
}

/// The result of one input.
enum Trial {
    Passed { seen: u64 },
    Failed { why: String },
}

impl<'a> Target<'a> {
    /// Creates a target whose inputs are in `fuzz/corpus/NAME.txt`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            tokens: Vec::new(),
            make: None,
            bytes_max: 1 << 14,
            time: (Duration::from_millis(100), Duration::from_micros(40)),
            memory: (1 << 20, 256),
        }
    }

    /// Sets words of the language, for mutations.
    #[must_use]
    pub fn tokens(mut self, tokens: &[&'a str]) -> Self {
        self.tokens
            .extend(tokens.iter().map(|token| token.as_bytes()));
        self
    }

    /// Sets a grammar, which makes a third of the inputs.
    #[must_use]
    pub fn made_by(mut self, make: &'a dyn Fn(&mut FuzzRandom) -> Vec<u8>) -> Self {
        self.make = Some(make);
        self
    }

    /// Sets the longest input. Default: 16 KiB.
    #[must_use]
    pub fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Sets the memory that the check may hold at once: a fixed part, and a part for each byte of the input. Default: 1
    /// MiB and 256 bytes.
    #[must_use]
    pub fn memory(mut self, fixed: usize, each: usize) -> Self {
        self.memory = (fixed, each);
        self
    }

    /// Sets the processor time that the check may take: a fixed part, and a part for each byte of the input. Default,
    /// for builds without optimisation: 100 ms and 40 µs.
    #[must_use]
    pub fn time(mut self, fixed: Duration, each: Duration) -> Self {
        self.time = (fixed, each);
        self
    }

    /// Fuzzes `check`, which panics when it handles an input wrongly. Inputs with the same answer count as alike: an
    /// input with a new answer is mutated further.
    ///
    /// # Panics
    /// An input failed; the message says how to keep it as a regression case.
    #[expect(
        clippy::disallowed_methods,
        reason = "a run ends after a time of the real clock"
    )]
    #[expect(clippy::print_stderr, reason = "a long run reports what it did")]
    pub fn run<S: Hash>(&self, mut check: impl FnMut(&[u8]) -> S) {
        hide_expected_panics();
        let seconds = std::env::var("HYDRANT_FUZZ_SECONDS").ok();
        let seed = std::env::var("HYDRANT_FUZZ_SEED").ok();
        // A short run is the same each time: everyday tests do not depend on chance.
        let seed = match (&seed, &seconds) {
            (Some(seed), _) => seed.parse().expect("HYDRANT_FUZZ_SEED is a number"),
            (None, None) => 7,
            (None, Some(_)) => Instant::now().hash_of(),
        };
        let length = seconds.as_deref().map_or(SECONDS_DEFAULT, |text| {
            text.parse().expect("HYDRANT_FUZZ_SECONDS is a number")
        });
        let mut random = FuzzRandom::with_seed(seed);
        let mut run = TargetRun {
            target: self,
            check: &mut check,
            coverage: Coverage::new(),
            seen: HashSet::new(),
            pool: Vec::new(),
        };
        let corpus = corpus::load(self.name);
        for input in &corpus {
            run.take(input);
        }
        run.take(b"");
        let known = run.pool.len();
        let mut found: Vec<Vec<u8>> = Vec::new();
        let begin = Instant::now();
        let mut count: u64 = 0;
        while begin.elapsed().as_secs_f64() < length {
            let input = run.next(&corpus, &mut random);
            if run.take(&input) && input.len() <= KEPT_BYTES_MAX {
                found.push(input);
            }
            count += 1;
        }
        if seconds.is_some() {
            let edges = run.coverage.edges();
            eprintln!(
                "fuzz {}: seed {seed}, {count} inputs in {length} s, {} new of {known} kept, {edges} edges",
                self.name,
                found.len(),
            );
        }
        if std::env::var_os("HYDRANT_FUZZ_KEEP").is_some() {
            let kept = self.smallest_cover(&found, &corpus, &mut check);
            corpus::add(self.name, kept.iter().map(Vec::as_slice))
                .expect("the corpus can be written");
        }
    }

    /// The shortest inputs of `found` that together cover what all of them cover.
    fn smallest_cover<S: Hash>(
        &self,
        found: &[Vec<u8>],
        corpus: &[Vec<u8>],
        check: &mut dyn FnMut(&[u8]) -> S,
    ) -> Vec<Vec<u8>> {
        let mut run = TargetRun {
            target: self,
            check,
            coverage: Coverage::new(),
            seen: HashSet::new(),
            pool: Vec::new(),
        };
        for input in corpus {
            run.take(input);
        }
        let mut found: Vec<&Vec<u8>> = found.iter().collect();
        found.sort_by_key(|input| input.len());
        let kept = found.into_iter().filter(|input| run.take(input));
        kept.take(KEPT_MAX).cloned().collect()
    }

    /// Checks one input.
    fn trial<S: Hash>(&self, check: &mut dyn FnMut(&[u8]) -> S, input: &[u8]) -> Trial {
        let mut tries = 3;
        loop {
            QUIET.set(true);
            let (answer, cost) = watch::over(self.name, input, || {
                cost::of(|| catch_unwind(AssertUnwindSafe(|| check(input))))
            });
            QUIET.set(false);
            let answer = match answer {
                Ok(answer) => answer,
                Err(panic) => {
                    let why = panic
                        .downcast_ref::<String>()
                        .map(String::as_str)
                        .or_else(|| panic.downcast_ref::<&str>().copied());
                    let why = format!("panicked: {}", why.unwrap_or("without a message"));
                    return Trial::Failed { why };
                }
            };
            match self.beyond(input.len(), cost) {
                None => {
                    return Trial::Passed {
                        seen: answer.hash_of(),
                    };
                }
                // Other threads share the processor's caches and the allocator's arenas: try again.
                Some(_) if tries > 1 => tries -= 1,
                Some(why) => return Trial::Failed { why },
            }
        }
    }

    fn beyond(&self, length: usize, cost: Cost) -> Option<String> {
        let time = self.time.0 + self.time.1 * u32::try_from(length).unwrap_or(u32::MAX);
        let bytes = self.memory.0 + self.memory.1 * length;
        if cost.time > time {
            Some(format!("took {:?} for {length} bytes", cost.time))
        } else if cost.bytes > bytes {
            Some(format!("held {} bytes for {length} bytes", cost.bytes))
        } else {
            None
        }
    }

    /// Finds a smaller input that also fails, and why it does.
    #[expect(
        clippy::disallowed_methods,
        reason = "a run ends after a time of the real clock"
    )]
    fn shrink<S: Hash>(
        &self,
        check: &mut dyn FnMut(&[u8]) -> S,
        input: &[u8],
        why: String,
    ) -> (Vec<u8>, String) {
        let begin = Instant::now();
        let mut why = why;
        let mut input = input.to_vec();
        let whole = input.len();
        let mut piece = whole.div_ceil(2);
        while piece > 0 && begin.elapsed() < SHRINKING {
            let mut at = 0;
            let mut shrunk = false;
            while at < input.len() && begin.elapsed() < SHRINKING {
                let mut less = input.clone();
                less.drain(at..(at + piece).min(input.len()));
                if let Trial::Failed { why: still } = self.trial(check, &less) {
                    (input, why) = (less, still);
                    shrunk = true;
                } else {
                    at += piece;
                }
            }
            if !shrunk || piece > 1 {
                piece /= 2;
            }
        }
        debug_assert!(input.len() <= whole, "shrinking only removes bytes");
        (input, why)
    }
}

/// The state of a run: what it has seen, and what it mutates.
struct TargetRun<'r, 'a, S> {
    target: &'r Target<'a>,
    check: &'r mut dyn FnMut(&[u8]) -> S,
    coverage: Coverage,
    seen: HashSet<u64>,
    pool: Vec<Vec<u8>>,
}

impl<S: Hash> TargetRun<'_, '_, S> {
    /// Checks an input, and keeps it if it shows something new; answers whether it did.
    fn take(&mut self, input: &[u8]) -> bool {
        self.coverage.reset();
        let trial = self.target.trial(self.check, input);
        match trial {
            Trial::Passed { seen } => {
                let mut new = self.coverage.grows();
                // Coverage is a better guide than answers.
                new |= !self.coverage.is_on() && self.seen.insert(seen);
                if new {
                    if self.pool.len() >= POOL_MAX {
                        self.pool.swap_remove(0);
                    }
                    self.pool.push(input.to_vec());
                }
                new
            }
            Trial::Failed { why } => {
                let (small, why) = self.target.shrink(self.check, input, why);
                panic!(
                    "fuzz {}: an input {why}\nFix it, and keep this line in {}:\n{}\n",
                    self.target.name,
                    corpus::path(self.target.name).display(),
                    corpus::escape(&small),
                );
            }
        }
    }

    /// Makes the next input.
    fn next(&self, corpus: &[Vec<u8>], random: &mut FuzzRandom) -> Vec<u8> {
        let made = self.target.make.filter(|_| random.u8(0..3) == 0);
        let mut input = match made {
            Some(make) => make(random),
            None => self.pick(corpus, random).to_vec(),
        };
        if made.is_none() || random.u8(0..4) == 0 {
            let other = self.pick(corpus, random);
            let tokens = &self.target.tokens;
            mutate::mutate(&mut input, other, tokens, self.target.bytes_max, random);
        }
        input.truncate(self.target.bytes_max);
        input
    }

    fn pick<'p>(&'p self, corpus: &'p [Vec<u8>], random: &mut FuzzRandom) -> &'p [u8] {
        let all = self.pool.len() + corpus.len();
        match all.checked_sub(1).map(|last| random.usize(0..=last)) {
            None => b"",
            Some(index) => match self.pool.get(index) {
                Some(input) => input,
                None => &corpus[index - self.pool.len()],
            },
        }
    }
}

trait HashOf: Hash {
    fn hash_of(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl<T: Hash> HashOf for T {}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Hides panics of checks: the run reports them after it has made their input small.
fn hide_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                report(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests;
