//! The files of an experiment: table, document and figure, side by side under one name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    cli::{
        context::{Context, absolute},
        error::{CliError, Result},
        output::JSON_SCHEMA_VERSION,
    },
    experiment::plot::{self, Figure},
};

/// What a run has found, in every form in which it is kept.
pub(super) struct Results<'a, T, F> {
    /// What the files are called, without ending.
    pub(super) name: &'a str,
    /// The measured values and what exactly was measured.
    pub(super) document: &'a T,
    /// One line for each value, with a line of names in front.
    pub(super) csv: String,
    /// The picture.
    pub(super) figure: &'a F,
}

/// The directory, made where it is missing. Before anything is measured: who waited for figures wants them kept.
pub(super) fn directory(asked: &Path) -> Result<PathBuf> {
    let path = absolute(asked)?;
    fs::create_dir_all(&path).map_err(|error| CliError::file("create", &path, error))?;
    Ok(path)
}

impl<T: Serialize, F: Figure> Results<'_, T, F> {
    /// Writes all files, and prints the document or the text for people.
    pub(super) fn publish(&self, directory: &Path, text: &str, context: &Context) -> Result<()> {
        let path = |ending: &str| directory.join(format!("{}.{ending}", self.name));
        let json = document(self.document)?;
        let failed = |error: plot::PlotError| {
            CliError::new("dske::experiment::figure", 1, "the figure cannot be drawn").because(error)
        };
        let svg = plot::svg(self.figure).map_err(failed)?;
        let png = plot::png(self.figure).map_err(failed)?;
        let files = [
            ("csv", self.csv.as_bytes()),
            ("json", json.as_bytes()),
            ("svg", svg.as_bytes()),
            ("png", png.as_slice()),
        ];
        for (ending, bytes) in files {
            let path = path(ending);
            dske_storage::files::write(&path, bytes)
                .map_err(|error| CliError::file("write", &path, error))?;
        }
        if context.out.json {
            return context.out.text(&json);
        }
        context.out.line(text)?;
        for (ending, _) in files {
            context.out.note(format_args!("wrote {}", path(ending).display()));
        }
        Ok(())
    }
}

/// The same text as `--json` prints.
fn document(body: &impl Serialize) -> Result<String> {
    #[derive(Serialize)]
    struct Document<'a, T> {
        schema_version: u32,
        #[serde(flatten)]
        body: &'a T,
    }
    let text = serde_json::to_string_pretty(&Document { schema_version: JSON_SCHEMA_VERSION, body });
    Ok(text.map_err(std::io::Error::other)? + "\n")
}
