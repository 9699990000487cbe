//! `labgate`: the daemon and its commands.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use labgate::{
    cli::{Cli, Command},
    commands,
};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => commands::run(&args),
        Command::Check(args) => commands::check(&args.config),
        Command::Init(args) => commands::init(&args),
        Command::Status(args) => commands::status(&args),
        Command::Devices(args) => commands::devices(&args),
        Command::Query(args) => commands::query(&args),
        Command::Audit(args) => commands::audit(&args),
        Command::Ledger { command } => commands::ledger(&command),
        Command::Replay(args) => commands::replay(&args),
        Command::Device { command } => commands::device(&command),
        Command::Detach(args) => commands::detach(&args),
        Command::Completions { shell } => commands::completions(shell),
        Command::Man { directory } => commands::man(&directory),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever has closed standard error has the exit status.
            writeln!(io::stderr(), "labgate: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}
