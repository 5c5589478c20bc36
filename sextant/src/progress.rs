//! How far long work is: a bar on a terminal, a log line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use tsdb::ReplayProgress;

/// How often the bar is drawn anew.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is logged where there is no terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// A bar for `total` steps of `what`; hidden where stderr is no terminal.
pub(crate) fn bar(what: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len}{left}");
    let bar = ProgressBar::new(total).with_message(String::from(what));
    // Until the first step is done nobody knows how long the others take.
    let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        if state.pos() > 0 {
            let _ = write!(out, ", {} left", HumanDuration(state.eta()));
        }
    };
    match style {
        Ok(style) => bar.with_style(style.with_key("left", left).progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// Shows how far a replay is until it is dropped.
pub(crate) struct ReplayWatch {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for ReplayWatch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic while drawing is no reason to stop.
            let _ = thread.join();
        }
    }
}

/// Starts to show how far the replay behind `progress` is.
pub(crate) fn watch_replay(progress: Arc<ReplayProgress>) -> ReplayWatch {
    let (stop, stopped) = mpsc::channel();
    let terminal = std::io::stderr().is_terminal();
    let interval = if terminal { DRAW_INTERVAL } else { LOG_INTERVAL };
    let watch = move || {
        let mut drawn: Option<ProgressBar> = None;
        while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            let (first, last, current) = progress.get();
            if last == 0 && current == 0 {
                // Nothing is known yet, or there is but one segment.
                continue;
            }
            if terminal {
                let segments = u64::from(last.saturating_sub(first)) + 1;
                let bar = drawn.get_or_insert_with(|| bar("replaying the log", segments));
                bar.set_position(u64::from(current.saturating_sub(first)));
            } else {
                tracing::info!(segment = current, last, "replaying the write-ahead log");
            }
        }
        if let Some(bar) = drawn {
            bar.finish_and_clear();
        }
    };
    let thread = std::thread::Builder::new().name(String::from("progress")).spawn(watch).ok();
    ReplayWatch { stop: Some(stop), thread }
}
