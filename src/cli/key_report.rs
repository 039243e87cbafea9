//! Hands a key to its place and tells what is known about how it came about, never what it is.

use std::path::PathBuf;

use dske_node::control::KeyDelivery;
use dske_protocol::naming::NodeRef;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cli::{
    context::Context,
    error::Result,
    key_out::{self, Encoding, KeyFile},
    output::{JSON_SCHEMA_VERSION, Output, printable},
    units,
};

/// Where a key goes, opened.
#[derive(Debug)]
pub(crate) enum Placed {
    /// Into a file.
    File(KeyFile, PathBuf),
    /// To standard output.
    Print(Encoding),
}

/// Puts the key in its place and reports. `asked` are the receivers of a key that this side sent.
pub(crate) fn deliver(
    key: KeyDelivery,
    asked: Option<&[NodeRef]>,
    place: Placed,
    context: &Context,
) -> Result<()> {
    let out = &context.out;
    let mut report = Report::new(&key, asked);
    let summary = report.line(out);
    match place {
        Placed::File(file, path) => {
            file.fill(key.key.expose())?;
            report.file = Some(path.display().to_string());
        }
        Placed::Print(encoding) if !out.json => {
            out.note(&summary);
            return key_out::print(key.key.expose(), encoding);
        }
        Placed::Print(_) => return print_with_key(&report, key.key.expose()),
    }
    if out.json {
        return out.document(&report);
    }
    out.line(summary)?;
    if let Some(file) = &report.file {
        out.note(format_args!("  in {file}"));
    }
    if let Some(open) = report.unconfirmed.as_deref().filter(|open| !open.is_empty()) {
        let names = open.join(", ");
        out.note(format_args!("  {names} may yet refuse it: use the key only after it was fetched there"));
    }
    if let Some(receivers) = asked {
        for receiver in receivers.iter().map(ToString::to_string) {
            let command = context.fetch_command(&receiver, key.id);
            out.note(out.dim(format_args!("  at {receiver}: {command}")));
        }
    }
    Ok(())
}

/// What is told about a key. After a restart of its node it is not known how it came about: then that is left out.
#[derive(Debug, Serialize)]
struct Report {
    id: String,
    bits: u64,
    n: u8,
    k: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unconfirmed: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    liars: Option<Vec<String>>,
    burned_bytes_per_hub: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    burned_hubs: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

impl Report {
    fn new(key: &KeyDelivery, asked: Option<&[NodeRef]>) -> Self {
        let names = |names: Vec<&NodeRef>| names.into_iter().map(ToString::to_string).collect::<Vec<_>>();
        let open =
            |asked: &[NodeRef]| names(asked.iter().filter(|name| !key.confirmed.contains(name)).collect());
        let course = key.course.as_ref();
        Self {
            id: key.id.to_string(),
            bits: u64::try_from(key.key.len()).unwrap_or(u64::MAX).saturating_mul(8),
            n: key.n,
            k: key.k,
            from: key.from.as_deref().map(printable),
            shares: course.map(|course| course.shares),
            confirmed: asked.map(|_| names(key.confirmed.iter().collect())),
            unconfirmed: asked.map(open),
            liars: course.map(|course| course.liars.iter().map(|liar| printable(liar)).collect()),
            burned_bytes_per_hub: key.burned_bytes,
            burned_hubs: course.map(|course| course.burned_hubs),
            took_us: course.map(|course| course.took_us),
            file: None,
        }
    }

    /// `key 7c1e9a04…  validated  shares 5/5  41 ms  burned 5×104 B`
    fn line(&self, out: &Output) -> String {
        let open = self.unconfirmed.as_deref().unwrap_or_default();
        let state = if open.is_empty() {
            "validated".to_owned()
        } else {
            format!("sent, not yet confirmed by {}", open.join(", "))
        };
        let id = self.id.get(..8).unwrap_or(&self.id);
        let mut parts = vec![format!("key {id}…"), state];
        parts.extend(self.from.as_ref().map(|sender| format!("from {sender}")));
        parts.extend(self.shares.map(|shares| format!("shares {shares}/{}", self.n)));
        parts.extend(self.took_us.map(units::micros));
        let burned = units::size(self.burned_bytes_per_hub);
        parts.push(match self.burned_hubs {
            Some(hubs) => format!("burned {hubs}×{burned}"),
            None => format!("burned {burned} with each hub"),
        });
        let mut line = parts.join("  ");
        let liars = self.liars.as_deref().unwrap_or_default();
        if !liars.is_empty() {
            line.push_str(&format!("  {} false share from {}", out.bad(), liars.join(", ")));
        }
        line
    }
}

/// The report with the key in it. The text is written past the output's buffer and erased.
pub(crate) fn print_with_key<R: Serialize>(report: &R, key: &[u8]) -> Result<()> {
    #[derive(Serialize)]
    struct Document<'a, R> {
        schema_version: u32,
        #[serde(flatten)]
        report: &'a R,
        key_base64: &'a str,
    }
    /// Room for everything but the key, so that the text never moves and leaves no copy behind.
    const REPORT_BYTES_MAX: usize = 64 << 10;
    let digits = key_out::base64(key);
    let key_base64 = std::str::from_utf8(&digits).unwrap_or_default();
    let mut text = Zeroizing::new(Vec::with_capacity(digits.len().saturating_add(REPORT_BYTES_MAX)));
    let document = Document { schema_version: JSON_SCHEMA_VERSION, report, key_base64 };
    serde_json::to_writer_pretty(&mut *text, &document).map_err(std::io::Error::other)?;
    text.push(b'\n');
    key_out::print_bytes(&text)
}
