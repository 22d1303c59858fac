//! `hydrant`: runs all stages in one process, and the operator's commands.

mod cli;
mod demo;
mod lake;
mod output;
mod pii;
mod run;
mod stream;
mod wire;

use std::process::ExitCode;

use hydrant_process::Setup;

fn main() -> ExitCode {
    let cli: cli::Cli = match hydrant_process::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let cli = cli.with_run_file();
    let json = cli.json;
    let setup = Setup::new("hydrant", &cli.common).log_level(cli.log_level());
    hydrant_process::main(
        setup,
        |layers, problems| cli.configure(layers, problems),
        async |process, work| cli::work(process, work, json).await,
    )
}
