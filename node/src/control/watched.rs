//! A connection that is watched while its caller waits for an answer: whoever has gone away is not answered, and above all
//! not with a key, which leaves once.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that a caller may send before it has its answer, and still be noticed when it goes away.
const AHEAD_BYTES_MAX: usize = 4096;

/// See the head of the file.
pub(super) struct Watched<S> {
    stream: S,
    /// What the caller sent before it had its answer.
    ahead: VecDeque<u8>,
}

impl<S: AsyncRead + Unpin> Watched<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, ahead: VecDeque::new() }
    }

    /// Comes back once the other end has closed its side, and only then. Of who has sent very much ahead nobody can say.
    pub(super) async fn gone(&mut self) {
        poll_fn(|cx| {
            while self.ahead.len() < AHEAD_BYTES_MAX {
                let mut bytes = [0; 256];
                let mut buffer = ReadBuf::new(&mut bytes);
                match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                    Ok(()) if buffer.filled().is_empty() => return Poll::Ready(()),
                    Ok(()) => self.ahead.extend(buffer.filled()),
                    Err(_) => return Poll::Ready(()),
                }
            }
            Poll::Pending
        })
        .await;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            self.ahead.drain(..count).for_each(|byte| buffer.put_slice(&[byte]));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn whoever_has_asked_ahead_and_gone_is_noticed_too() {
        let (mut caller, stream) = tokio::io::duplex(8192);
        let mut watched = Watched::new(stream);
        caller.write_all(&[7; 1000]).await.expect("sent");
        assert!(timeout(Duration::from_millis(20), watched.gone()).await.is_err(), "it waits");
        drop(caller);
        timeout(Duration::from_secs(5), watched.gone()).await.expect("it is noticed");
        let mut bytes = Vec::new();
        watched.read_to_end(&mut bytes).await.expect("all of it");
        assert_eq!(bytes, [7; 1000]);
        let (mut caller, stream) = tokio::io::duplex(3 * AHEAD_BYTES_MAX);
        let mut watched = Watched::new(stream);
        caller.write_all(&[8; 2 * AHEAD_BYTES_MAX]).await.expect("sent");
        assert!(timeout(Duration::from_millis(20), watched.gone()).await.is_err(), "to a bound");
        assert!(watched.ahead.len() < AHEAD_BYTES_MAX + 256);
        let mut bytes = vec![0; 2 * AHEAD_BYTES_MAX];
        watched.read_exact(&mut bytes).await.expect("all of it");
        assert!(bytes.iter().all(|byte| *byte == 8));
    }

    #[tokio::test]
    async fn whoever_has_gone_is_noticed_and_what_was_sent_early_is_not_lost() {
        let (mut caller, stream) = tokio::io::duplex(64);
        let mut watched = Watched::new(stream);
        assert!(timeout(Duration::from_millis(20), watched.gone()).await.is_err(), "it waits");
        caller.write_all(b"next").await.expect("sent");
        assert!(timeout(Duration::from_millis(20), watched.gone()).await.is_err(), "it asks for more");
        let mut bytes = [0; 4];
        watched.read_exact(&mut bytes).await.expect("all of it");
        assert_eq!(&bytes, b"next");
        watched.write_all(b"answer").await.expect("sent");
        drop(caller);
        watched.gone().await;
    }
}
