//! What became of attempts to read something anew.

/// What is read anew while the sensor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The configuration file, and with it the databases.
    Configuration,
    /// The geo databases alone.
    Databases,
    /// The web configuration and its certificates alone.
    WebConfiguration,
    /// The devices that were adopted.
    Devices,
}

impl Reloaded {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Configuration, Self::Databases, Self::WebConfiguration, Self::Devices];

    /// The label of metrics and log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Databases => "databases",
            Self::WebConfiguration => "web_configuration",
            Self::Devices => "devices",
        }
    }
}

/// Attempts to read one thing anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// That succeeded.
    pub succeeded: u64,
    /// That failed, and left in use what was there.
    pub failed: u64,
    /// Whether the last one failed.
    pub last_failed: bool,
    /// When the last one succeeded, Unix time in nanoseconds; 0 before the first.
    pub last_success: u64,
}

impl Attempts {
    pub(super) const fn add(&mut self, succeeded: bool, now: u64) {
        self.last_failed = !succeeded;
        if succeeded {
            self.succeeded += 1;
            self.last_success = now;
        } else {
            self.failed += 1;
        }
    }
}
