//! Notices when a file in a folder of scripts changes.

use std::path::Path;
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How long a folder must be quiet: editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// Watches the folder until it is dropped.
pub struct FolderWatch {
    _watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
    /// A change was seen, and has not been reported yet.
    due: bool,
}

impl FolderWatch {
    /// # Errors
    /// The folder does not exist, or the system allows no more watches.
    pub fn new(dir: &Path) -> Result<Self, notify::Error> {
        let (sender, changes) = mpsc::channel(1);
        let on_event = move |event: Result<Event, notify::Error>| {
            let changed = event.is_ok_and(|event| concerns_a_script(&event));
            if changed {
                // The channel is full: a change that is still unprocessed has been noted already.
                let _ = sender.try_send(());
            }
        };
        let mut watcher = notify::recommended_watcher(on_event)?;
        watcher.watch(dir, RecursiveMode::NonRecursive)?;
        Ok(Self {
            _watcher: watcher,
            changes,
            due: false,
        })
    }

    /// Resolves when files have changed and the folder is quiet again. It may be dropped and called again.
    pub async fn changed(&mut self) {
        if !self.due {
            if self.changes.recv().await.is_none() {
                return std::future::pending().await;
            }
            self.due = true;
        }
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.changes.recv()).await {}
        self.due = false;
    }
}

/// Reading a file is also an event, which a reload would cause itself.
fn concerns_a_script(event: &Event) -> bool {
    let written = matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
    );
    let is_script = |path: &std::path::PathBuf| path.extension().is_some_and(|ext| ext == "lua");
    written && event.paths.iter().any(is_script)
}
