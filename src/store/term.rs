//! Which Redis this server considers the master. Its connections all lead there, and move together.
//!
//! An address can lead to another Redis from one moment to the next: a DNS name, a moving address, a proxy. And a
//! master can become a replica. Open connections notice neither, so the newest one shows the others where to go.

use tokio::sync::watch;

/// The period during which this server considers one run of one Redis the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Term(u64);

/// The master as this server knows it; shared by its connections.
#[derive(Debug, Clone)]
pub struct Master(watch::Sender<Reign>);

#[derive(Debug, Default)]
struct Reign {
    term: Term,
    /// The `run_id` from `INFO`; `None` between two masters.
    run_id: Option<String>,
}

impl Default for Master {
    fn default() -> Self {
        Self(watch::Sender::new(Reign::default()))
    }
}

impl Master {
    /// A new connection leads to this run of a master. If it differs from the previous one, a new term begins.
    pub fn met(&self, run_id: &str) -> Term {
        self.0.send_if_modified(|reign| {
            let is_new = reign.run_id.as_deref() != Some(run_id);
            if is_new {
                *reign = Reign {
                    term: reign.term.next(),
                    run_id: Some(run_id.to_owned()),
                };
            }
            is_new
        });
        self.0.borrow().term
    }

    /// Whether the term continues, with this run.
    pub fn is(&self, term: Term, run_id: &str) -> bool {
        let reign = self.0.borrow();
        reign.term == term && reign.run_id.as_deref() == Some(run_id)
    }

    /// The master of this term is no longer one. A term that has already ended stays ended.
    pub fn end(&self, term: Term) {
        self.0.send_if_modified(|reign| {
            let is_current = reign.term == term;
            if is_current {
                *reign = Reign {
                    term: term.next(),
                    run_id: None,
                };
            }
            is_current
        });
    }

    /// Resolves when the term has ended.
    pub async fn ended(&self, term: Term) {
        // The sender is `self`.
        let _ = self
            .0
            .subscribe()
            .wait_for(|reign| reign.term != term)
            .await;
    }
}

impl Term {
    fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_to_one_run_share_a_term() {
        let master = Master::default();
        let first = master.met("a");
        assert_eq!(master.met("a"), first);
        assert_ne!(master.met("b"), first);
        assert_ne!(master.met("a"), first, "it was left in between");
    }

    #[test]
    fn a_master_that_comes_back_after_it_was_none_begins_a_new_term() {
        let master = Master::default();
        let first = master.met("a");
        master.end(first);
        let second = master.met("a");
        assert_ne!(second, first);
        master.end(first);
        assert_eq!(master.met("a"), second, "a late word about the first");
    }

    #[tokio::test]
    async fn who_stays_with_the_former_master_is_told() {
        let master = Master::default();
        let first = master.met("a");
        let ended = master.ended(first);
        master.met("b");
        ended.await;
    }
}
