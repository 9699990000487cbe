//! Dashboards, rules, their tests and their runbooks fit together.

#[test]
fn rules_and_runbooks() {
    xtask::dashboards::check().unwrap();
}
