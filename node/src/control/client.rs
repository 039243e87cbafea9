//! The side of the control socket that a command or a screen holds.

use std::{io, path::PathBuf};

use tokio::net::UnixStream;

use super::{
    api::{Reply, Request},
    frame,
};
use crate::DataDir;

/// No node runs in that directory, or it is not ours to talk to.
#[derive(Debug, thiserror::Error)]
#[error("no node answers on {socket}: {source}", socket = socket.display())]
pub struct NotRunning {
    /// The socket that was tried.
    pub socket: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A connection to a running node; one request at a time.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to the node that runs in a directory.
    ///
    /// # Errors
    /// If none does, or the socket belongs to somebody else.
    pub async fn connect(dir: &DataDir) -> Result<Self, NotRunning> {
        let socket = dir.control_socket();
        match UnixStream::connect(&socket).await {
            Ok(stream) => Ok(Self { stream }),
            Err(source) => Err(NotRunning { socket, source }),
        }
    }

    /// Sends a request and reads up to its final reply; `progress` hears of bytes done and in all.
    ///
    /// # Errors
    /// If the node goes away or speaks another version. A node's own refusal is [`Reply::Failed`].
    pub async fn call(
        &mut self,
        request: Request,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> io::Result<Reply> {
        frame::write(&mut self.stream, &request).await?;
        loop {
            match frame::read(&mut self.stream, frame::REPLY_BYTES_MAX).await? {
                Some(Reply::Progress { done, total }) => progress(done, total),
                Some(reply) => return Ok(reply),
                None => {
                    let gone = "the node closed the connection; see its log";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, gone));
                }
            }
        }
    }
}
