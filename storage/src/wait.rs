//! Waiting for a reply on a thread that may block: the store itself has no asynchronous runtime.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use crate::store::Reply;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks the thread until the store has answered; `None` where it was closed before it could. Not for
/// asynchronous code, which awaits the reply.
pub fn wait<T>(reply: Reply<T>) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut reply = pin!(reply);
    loop {
        match reply.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer.ok(),
            Poll::Pending => thread::park(),
        }
    }
}
