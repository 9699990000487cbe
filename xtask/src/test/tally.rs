//! Counts tests by the text the Rust test harness prints.

/// Totals over several test programs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

impl Tally {
    /// Takes one line of output, and says whether a reader wants to see it: a test that passed
    /// needs no line of its own.
    pub(super) fn take(&mut self, line: &str) -> bool {
        if let Some(result) = line.strip_prefix("test result: ") {
            let count = |what| number_before(result, what).unwrap_or(0);
            self.passed += count(" passed");
            self.failed += count(" failed");
            return count(" passed") + count(" failed") > 0;
        }
        let quiet = line.is_empty()
            || line.starts_with("running ")
            || (line.starts_with("test ") && line.ends_with(" ... ok"));
        !quiet
    }
}

/// The number that stands right before a word.
fn number_before(text: &str, word: &str) -> Option<usize> {
    let (before, _) = text.split_once(word)?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_results() {
        let mut tally = Tally::default();
        let tail = "0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert!(tally.take(&format!("test result: ok. 12 passed; 0 failed; {tail}")));
        assert!(tally.take(&format!("test result: FAILED. 3 passed; 2 failed; {tail}")));
        assert!(!tally.take(&format!("test result: ok. 0 passed; 0 failed; {tail}")));
        assert_eq!(tally, Tally { passed: 15, failed: 2 });
    }

    #[test]
    fn shows_what_is_not_routine() {
        let mut tally = Tally::default();
        assert!(!tally.take("test parse::vlan ... ok"));
        assert!(!tally.take("running 3 tests"));
        assert!(tally.take("test parse::vlan ... FAILED"));
        assert!(tally.take("  left: 1"));
        assert_eq!(tally, Tally::default());
    }
}
