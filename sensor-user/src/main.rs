//! `labgate`: the daemon and its commands.

use std::process::ExitCode;

use clap::Parser as _;
use labgate::{
    cli::{Cli, Command},
    commands,
};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => commands::run(&args.config),
        Command::Check(args) => commands::check(&args.config),
        Command::Init(args) => commands::init(&args),
        Command::Status(args) => commands::status(&args),
        Command::Devices(args) => commands::devices(&args),
        Command::Query(args) => commands::query(&args),
        Command::Device { command } => commands::device(&command),
        Command::Detach => commands::detach(),
        Command::Completions { shell } => {
            commands::completions(shell);
            Ok(())
        }
        Command::Man { directory } => commands::man(&directory),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("labgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
