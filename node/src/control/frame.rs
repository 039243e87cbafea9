//! Frames on the control socket: a length of four bytes, little-endian, then bincode.

use std::io;

use dske_protocol::{codec, wiped::Wiped};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest request: paths, names and passphrases.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Longest reply: a key of the longest kind, or a full status.
pub(crate) const REPLY_BYTES_MAX: usize = 16 << 20;

/// Bytes for which there is a place before any of them has come.
const READ_AT_ONCE: usize = 64 << 10;

/// Reads one frame; `None` at the end of the stream.
pub(crate) async fn read<T: DeserializeOwned>(
    io: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match io.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is longer than allowed"));
    }
    // Erased: a frame may hold a key or a passphrase. There is room for all of it only when as much as this has come, so
    // a length that lies costs little.
    let mut bytes = Wiped::new(Vec::with_capacity(length.min(READ_AT_ONCE)));
    fill(io, &mut bytes, length.min(READ_AT_ONCE)).await?;
    if length > bytes.len() {
        let mut all = Wiped::new(Vec::with_capacity(length));
        all.extend_from_slice(&bytes);
        bytes = all;
        fill(io, &mut bytes, length).await?;
    }
    let malformed = |_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "a frame is malformed: is the other side another version of dske?",
        )
    };
    codec::decode(&bytes, bytes_max).map(Some).map_err(malformed)
}

/// Reads until there are so many bytes, for which there is room: they must not move and leave a copy behind.
async fn fill(io: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>, length: usize) -> io::Result<()> {
    while bytes.len() < length {
        let missing = length.saturating_sub(bytes.len()) as u64;
        if (&mut *io).take(missing).read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Writes one frame.
pub(crate) async fn write<T: Serialize>(io: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "a frame cannot be encoded");
    // Room for all of it, so that the bytes never move and leave a copy behind.
    let encoded = codec::encoded_bytes(value).map_err(|_| invalid())?;
    let mut bytes = Wiped::new(Vec::with_capacity(4 + encoded));
    bytes.extend_from_slice(&[0; 4]);
    codec::encode_into(value, &mut bytes).map_err(|_| invalid())?;
    let length = u32::try_from(bytes.len() - 4).map_err(|_| invalid())?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    io.write_all(&bytes).await?;
    io.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{KeyGet, Reply, Request};

    #[tokio::test]
    async fn frames_round_trip_and_garbage_is_refused() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Request::KeyList { limit: 7 }).await.unwrap();
        let mut stream = bytes.as_slice();
        let back: Option<Request> = read(&mut stream, REQUEST_BYTES_MAX).await.unwrap();
        assert!(matches!(back, Some(Request::KeyList { limit: 7 })));
        assert!(read::<Request>(&mut stream, REQUEST_BYTES_MAX).await.unwrap().is_none());
        for garbage in [&[0xff; 8][..], &[4, 0, 0, 0, 9, 9, 9, 9], &[9, 0, 0, 0, 1]] {
            let mut stream = garbage;
            assert!(read::<Reply>(&mut stream, REPLY_BYTES_MAX).await.is_err(), "{garbage:?}");
        }
    }

    #[tokio::test]
    async fn a_long_frame_comes_whole_or_not_at_all() {
        let (purpose, none) = ("long".repeat(READ_AT_ONCE), Vec::new());
        let get = KeyGet { with: none.clone(), bits: 256, hubs: none, k: None, purpose, timeout_ms: 7 };
        let mut bytes = Vec::new();
        write(&mut bytes, &Request::KeyGet(get)).await.unwrap();
        let whole: Option<Request> = read(&mut bytes.as_slice(), REPLY_BYTES_MAX).await.unwrap();
        assert!(
            matches!(whole, Some(Request::KeyGet(KeyGet { purpose, .. })) if purpose.len() == 4 * READ_AT_ONCE)
        );
        for cut in [5, READ_AT_ONCE, READ_AT_ONCE + 4, bytes.len() - 1] {
            let cut = read::<Request>(&mut &bytes[..cut], REPLY_BYTES_MAX).await;
            assert!(cut.is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof));
        }
    }
}
