//! What a package has beside the program, made from the command line itself:
//! completions and manual pages.

use std::path::PathBuf;

use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;

use crate::EXIT_OTHER;
use crate::cli::Arguments;
use crate::client::Failure;

#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Completions for a shell, on standard output.
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// A manual page for each verb, into a folder.
    Man { folder: PathBuf },
}

impl Generate {
    /// Writes it.
    pub fn write(&self) -> Result<(), Failure> {
        match self {
            Generate::Completions { shell } => {
                clap_complete::generate(*shell, &mut Arguments::command(), "sgctl", &mut std::io::stdout());
                Ok(())
            }
            Generate::Man { folder } => {
                clap_mangen::generate_to(Arguments::command(), folder).map_err(|error| {
                    let message = format!("the manual cannot be written into {}: {error}", folder.display());
                    Failure::local(EXIT_OTHER, "ClientError", message)
                })
            }
        }
    }
}
