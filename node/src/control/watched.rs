//! A connection that is watched while its caller waits for an answer: whoever has gone away is not answered, and above all
//! not with a key, which leaves once.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the head of the file.
pub(super) struct Watched<S> {
    stream: S,
    /// The first byte of what the caller sent before it had its answer.
    ahead: Option<u8>,
}

impl<S: AsyncRead + Unpin> Watched<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, ahead: None }
    }

    /// Comes back once the other end has closed its side, and only then.
    pub(super) async fn gone(&mut self) {
        poll_fn(|cx| {
            if self.ahead.is_some() {
                return Poll::Pending;
            }
            let mut byte = [0];
            let mut buffer = ReadBuf::new(&mut byte);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) => match buffer.filled() {
                    [first] => {
                        self.ahead = Some(*first);
                        Poll::Pending
                    }
                    _ => Poll::Ready(()),
                },
                Err(_) => Poll::Ready(()),
            }
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
        if buffer.remaining() > 0
            && let Some(first) = self.ahead.take()
        {
            buffer.put_slice(&[first]);
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
