//! Exchanges that brought several messages: each message is answered on its own, the exchange when all
//! of them are.

use std::collections::BTreeMap;

use dske_protocol::{hub::RequestId, refusal::Refusal};

/// See the head of the file. Ids of exchanges come from the network; ids of messages are given here.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    batches: BTreeMap<RequestId, Batch>,
    places: BTreeMap<RequestId, (RequestId, usize)>,
    next: u64,
}

#[derive(Debug)]
struct Batch {
    results: Vec<Option<Result<(), Refusal>>>,
    open: usize,
}

/// An exchange whose messages are all answered, with the results in their order.
pub(crate) type Answered = (RequestId, Vec<Result<(), Refusal>>);

impl Batches {
    /// An id that no message has.
    pub(crate) fn fresh_id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    /// Opens an exchange with at least one message; gives an id for each.
    pub(crate) fn open(&mut self, exchange: RequestId, messages: usize) -> Vec<RequestId> {
        self.batches.insert(exchange, Batch { results: vec![None; messages], open: messages });
        let place = |place| {
            let id = self.fresh_id();
            self.places.insert(id, (exchange, place));
            id
        };
        (0..messages).map(place).collect()
    }

    /// Answers a message; gives the exchange if that was its last.
    pub(crate) fn answer(&mut self, id: RequestId, result: Result<(), Refusal>) -> Option<Answered> {
        let (exchange, place) = self.places.remove(&id)?;
        let batch = self.batches.get_mut(&exchange)?;
        *batch.results.get_mut(place)? = Some(result);
        batch.open -= 1;
        if batch.open > 0 {
            return None;
        }
        let batch = self.batches.remove(&exchange)?;
        let unanswered = Err(Refusal::Internal);
        Some((exchange, batch.results.into_iter().map(|result| result.unwrap_or(unanswered)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_answered_once_in_order_when_all_its_messages_are() {
        let mut batches = Batches::default();
        let ids = batches.open(RequestId(9), 2);
        assert_eq!(batches.answer(ids[1], Err(Refusal::BadTag)), None);
        assert_eq!(batches.answer(ids[1], Ok(())), None, "a message is answered once");
        let expected = (RequestId(9), vec![Ok(()), Err(Refusal::BadTag)]);
        assert_eq!(batches.answer(ids[0], Ok(())), Some(expected));
    }
}
