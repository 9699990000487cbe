//! What differs between the architectures that the sensor is verified on.

use clap::ValueEnum;

/// An architecture, by Debian's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// x86, 64 bits
    #[value(alias = "x86_64")]
    Amd64,
    /// ARM, 64 bits, little endian
    #[value(alias = "aarch64")]
    Arm64,
}

impl Arch {
    /// The one this command was built for.
    pub const fn native() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 }
    }

    /// Debian's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The compiler's target.
    pub const fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// How Debian's packages of GCC and binutils call it, also as a directory of libraries.
    pub const fn gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// The machine's first serial port.
    pub(super) const fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}
