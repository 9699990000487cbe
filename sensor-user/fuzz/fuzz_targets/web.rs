#![no_main]
// The first check reads the databases, for which no input is to blame.
libfuzzer_sys::fuzz_target!(init: labgate_fuzz::web::check(b""), |input: &[u8]| {
    labgate_fuzz::web::check(input);
});
