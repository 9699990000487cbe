//! Every query of the dashboards and rules finds something after real traffic on the bench
//! (`xtask::bench::Bench`), and amounts are those of the sensor.

#[test]
fn each_panel_shows_something() {
    if !xtask::require_root("each_panel_shows_something") {
        return;
    }
    xtask::dashboards::check_queries().unwrap();
}
