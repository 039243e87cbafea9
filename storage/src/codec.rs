//! How records become bytes: bincode with fixed-size integers, a limit, and no trailing bytes.

use bincode::Options;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::StoreError;

/// Largest value in the ledger. sled puts larger ones into files of their own that it never syncs.
pub(crate) const RECORD_BYTES_MAX: u64 = 4096;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(RECORD_BYTES_MAX).reject_trailing_bytes()
}

/// Encodes one record; `what` names it in the error.
pub(crate) fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, StoreError> {
    let bytes = bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .serialized_size(value)
        .map_err(|error| StoreError::invalid(format!("{what} cannot be encoded: {error}")))?;
    if bytes > RECORD_BYTES_MAX {
        return Err(StoreError::RecordTooLarge { what, bytes, max: RECORD_BYTES_MAX });
    }
    options()
        .serialize(value)
        .map_err(|error| StoreError::invalid(format!("{what} cannot be encoded: {error}")))
}

/// Decodes one record that this store wrote.
pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    options().deserialize(bytes).map_err(|error| StoreError::Damaged { what, detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_a_size_limit_and_no_tail() {
        // Eight bytes are the length of the list.
        let longest = vec![0u8; 4088];
        let bytes = encode("test", &longest).expect("as long as allowed");
        assert_eq!(decode::<Vec<u8>>("test", &bytes), Ok(longest));
        assert!(matches!(encode("test", &vec![0u8; 4089]), Err(StoreError::RecordTooLarge { .. })));
        let mut bytes = encode("test", &7u64).expect("small");
        assert_eq!(decode::<u64>("test", &bytes), Ok(7));
        bytes.push(0);
        assert!(decode::<u64>("test", &bytes).is_err());
    }
}
