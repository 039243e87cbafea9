//! Writes the seeds of all targets into their corpora: `cargo run -p dske-hostile --bin seeds -- fuzz/corpus`.

use std::{fs, path::PathBuf, process::ExitCode};

use dske_hostile::{seeds, targets::TARGETS};

fn main() -> ExitCode {
    let Some(corpus) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("give the directory of the corpora, such as fuzz/corpus");
        return ExitCode::from(2);
    };
    for target in TARGETS {
        let dir = corpus.join(target.name);
        let write = || {
            fs::create_dir_all(&dir)?;
            for (number, seed) in seeds::of(target.name).iter().enumerate() {
                fs::write(dir.join(format!("seed-{number:02}")), seed)?;
            }
            std::io::Result::Ok(())
        };
        if let Err(error) = write() {
            eprintln!("cannot write {}: {error}", dir.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
