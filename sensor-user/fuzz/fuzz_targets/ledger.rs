#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| labgate_fuzz::ledger::check(input));
