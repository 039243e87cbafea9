//! The screen's loop: snapshots, keys and the time go into the app, effects come out, and the picture is painted where it
//! has changed.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use dske_tui::{
    App, Effect,
    terminal::{Event, Screen, next_event},
};
use tokio::{
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};

use super::{
    Watched, export, orders,
    source::{Source, now_ms},
};
use crate::cli::error::{CliError, Result, exit};

/// Least time between two pictures.
const FRAME: Duration = Duration::from_millis(50);
/// How often the time is looked at: ages, and messages that have been read.
const TICK: Duration = Duration::from_millis(500);
/// How long the reader of keys waits before it looks whether it is still wanted.
const KEY_WAIT: Duration = Duration::from_millis(250);
/// Keys that wait to be taken in: more than anybody types.
const KEYS_MAX: usize = 256;
/// Orders that are carried out at once.
const ORDERS_MAX: usize = 16;

/// What orders are carried out with.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) watched: Watched,
    pub(crate) timeout: Duration,
}

/// Shows the app until the user leaves or `stop` completes.
pub(crate) async fn run(mut app: App, running: Running, stop: impl Future<Output = ()>) -> Result<()> {
    let fail =
        |error| CliError::new("dske::top::screen", exit::OTHER, "the terminal cannot be used").because(error);
    let mut source = Source::new(&running.watched.targets);
    let (outcomes, mut outcome) = mpsc::channel::<(bool, String)>(ORDERS_MAX);
    let mut screen = Screen::open(app.wants_mouse()).map_err(fail)?;
    let mut keys = Keys::listen();
    let mut ticks = time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut next_frame = Instant::now();
    let pace = source.pace.clone();
    tokio::pin!(stop);
    loop {
        if app.is_dirty() && Instant::now() >= next_frame {
            screen.draw(&mut app, now_ms()).map_err(fail)?;
            next_frame = Instant::now() + FRAME;
        }
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            key = keys.events.recv() => match key {
                Some(Ok(event)) => app.event(now_ms(), &event),
                // The terminal is gone: there is nobody to tell.
                Some(Err(_)) | None => return Ok(()),
            },
            Some((good, text)) = outcome.recv() => app.done(now_ms(), good, &text),
            update = source.updates.recv() => match update {
                Some(update) => app.update(now_ms(), update),
                None => {
                    source.failed().await;
                    return Err(CliError::new("dske::top::source", exit::OTHER, "watching the nodes has come to an end"));
                }
            },
            _ = ticks.tick() => app.tick(now_ms()),
            () = time::sleep_until(next_frame), if app.is_dirty() => {}
        }
        pace.set(app.is_moving(now_ms()));
        for effect in app.effects() {
            match effect {
                Effect::Quit => return Ok(()),
                Effect::Copy(text) => screen.copy(&text).map_err(fail)?,
                Effect::Export(path) => {
                    // Without the line that asked for it.
                    screen.draw(&mut app, now_ms()).map_err(fail)?;
                    let (good, text) = export::write(path, &screen, app.statuses());
                    app.done(now_ms(), good, &text);
                }
                Effect::Do(order) => {
                    let (running, outcomes) = (running.clone(), outcomes.clone());
                    tokio::spawn(async move {
                        let told = orders::execute(&running, order).await;
                        // The screen may have gone meanwhile.
                        let _ = outcomes.send(told).await;
                    });
                }
            }
        }
    }
}

/// Reads keys on a thread of its own, until dropped.
struct Keys {
    events: mpsc::Receiver<std::io::Result<Event>>,
    wanted: Arc<AtomicBool>,
}

impl Keys {
    fn listen() -> Self {
        let (sender, events) = mpsc::channel(KEYS_MAX);
        let wanted = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&wanted);
        thread::spawn(move || {
            while still.load(Ordering::Relaxed) {
                let sent = match next_event(KEY_WAIT) {
                    Ok(None) => Ok(()),
                    Ok(Some(event)) => sender.blocking_send(Ok(event)),
                    Err(error) => {
                        // After this there is nothing more to read; nobody listens where that is known already.
                        let _ = sender.blocking_send(Err(error));
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        Self { events, wanted }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::Relaxed);
    }
}
