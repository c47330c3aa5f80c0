//! What was in effect, and for how long: it determines where a rollback goes, and which sets are never dropped.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::AppliedSet;

/// How many steps can be undone.
const STEPS_MAX: usize = 50;
/// A set that was in effect for this long is kept forever.
const LONG_MS: u64 = 24 * 60 * 60 * 1000;

/// The field `effect`. Versions before 0.2.0 do not know it: what they did is added when the field is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Effect {
    /// What was in effect before, the latest last; `None` stands for the servers' own scripts.
    pub before: Vec<Option<u64>>,
    pub current: Option<u64>,
    /// When `current` came into effect: Unix time in milliseconds.
    since_ms: u64,
    /// How long each set was in effect, not counting the time of `current` since `since_ms`.
    total_ms: BTreeMap<u64, u64>,
}

impl Effect {
    /// What is known: `stored`, and what was done by versions that do not record it.
    pub(super) fn known(
        stored: Option<Self>,
        current: Option<u64>,
        sets: &[AppliedSet],
        now_ms: u64,
    ) -> Self {
        let mut effect = stored.unwrap_or_else(|| Self::guessed(current, sets));
        if effect.current != current {
            let applied = sets.iter().find(|set| Some(set.number) == current);
            let since_ms = applied.map_or(now_ms, |set| set.at_ms.max(effect.since_ms));
            effect.enter(current, since_ms.min(now_ms));
        }
        effect
    }

    /// Assumes that sets were only ever applied, one after the other.
    fn guessed(current: Option<u64>, sets: &[AppliedSet]) -> Self {
        let mut effect = Self::default();
        for set in sets {
            effect.enter(Some(set.number), set.at_ms);
            if Some(set.number) == current {
                break;
            }
        }
        effect
    }

    /// Records that another set is in effect from now on.
    pub(super) fn enter(&mut self, next: Option<u64>, now_ms: u64) {
        self.leave(now_ms);
        self.before.push(self.current);
        let surplus = self.before.len().saturating_sub(STEPS_MAX);
        self.before.drain(..surplus);
        self.current = next;
    }

    /// Goes back to what was in effect before; `None` if nothing was.
    pub(super) fn step_back(&mut self, now_ms: u64) -> Option<Option<u64>> {
        let before = loop {
            let before = self.before.pop()?;
            if before != self.current {
                break before;
            }
        };
        self.leave(now_ms);
        self.current = before;
        Some(before)
    }

    fn leave(&mut self, now_ms: u64) {
        if let Some(number) = self.current {
            let took = now_ms.saturating_sub(self.since_ms);
            *self.total_ms.entry(number).or_default() += took;
        }
        self.since_ms = now_ms;
    }

    /// The oldest of these sets that may be dropped so that `kept` others remain. A set is kept if it is in effect, was
    /// in effect for long, or is needed by the next step back.
    pub(super) fn surplus(&self, sets: &[AppliedSet], kept: usize, now_ms: u64) -> Vec<u64> {
        let mut now = self.clone();
        now.leave(now_ms);
        let needed: BTreeSet<u64> = self
            .before
            .last()
            .copied()
            .flatten()
            .into_iter()
            .chain(self.current)
            .collect();
        let is_long = |number: &u64| now.total_ms.get(number).is_some_and(|ms| *ms >= LONG_MS);
        let numbers = sets.iter().map(|set| set.number);
        let may_go: Vec<u64> = numbers
            .filter(|number| !needed.contains(number) && !is_long(number))
            .collect();
        let surplus = sets.len().saturating_sub(kept).min(may_go.len());
        may_go[..surplus].to_vec()
    }

    /// Removes the times of sets that are no longer kept.
    pub(super) fn forget(&mut self, dropped: &[u64]) {
        self.total_ms.retain(|number, _| !dropped.contains(number));
        self.before
            .retain(|before| before.is_none_or(|number| !dropped.contains(&number)));
        self.before.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const DAY: u64 = LONG_MS;

    fn sets(at_ms: &[u64]) -> Vec<AppliedSet> {
        let set = |(index, at_ms): (usize, &u64)| AppliedSet {
            number: index as u64 + 1,
            by: String::new(),
            at_ms: *at_ms,
            note: String::new(),
            contract: 1,
            scripts: HashMap::new(),
        };
        at_ms.iter().enumerate().map(set).collect()
    }

    #[test]
    fn a_step_back_goes_to_what_was_in_effect_before() {
        let mut effect = Effect::default();
        for number in [1, 2, 3, 1] {
            effect.enter(Some(number), number);
        }
        let steps: Vec<_> = std::iter::from_fn(|| effect.step_back(9)).collect();
        assert_eq!(steps, [Some(3), Some(2), Some(1), None]);
        assert_eq!(effect.step_back(9), None);
    }

    #[test]
    fn after_a_step_back_another_one_goes_further() {
        let mut effect = Effect::default();
        for number in [1, 2] {
            effect.enter(Some(number), number);
        }
        assert_eq!(effect.step_back(3), Some(Some(1)));
        effect.enter(Some(3), 4);
        assert_eq!(effect.step_back(5), Some(Some(1)));
        assert_eq!(effect.step_back(6), Some(None));
    }

    #[test]
    fn what_former_versions_did_is_taken_from_what_they_wrote() {
        // Given three sets of which the second is current, after a rollback
        let applied = sets(&[10, 20, 30]);
        let effect = Effect::known(None, Some(2), &applied, 100);
        assert_eq!(
            (effect.before.clone(), effect.current),
            (vec![None, Some(1)], Some(2))
        );
        // And given one that an earlier version applied meanwhile
        let applied = sets(&[10, 20, 30, 40]);
        let known = Effect::known(Some(effect), Some(4), &applied, 100);
        assert_eq!(known.before, [None, Some(1), Some(2)]);
        assert_eq!(known.current, Some(4));
        // And where nothing was ever applied there is nothing
        let none = Effect::known(None, None, &[], 100);
        assert_eq!((none.before.len(), none.current), (0, None));
        // But where everything was rolled back, the sets were in effect
        let left = Effect::known(None, None, &applied, 100);
        assert_eq!(left.before.last(), Some(&Some(4)));
    }

    #[test]
    fn what_was_in_effect_for_a_day_is_never_dropped() {
        let applied = sets(&[0, DAY, DAY + 1, DAY + 2, DAY + 3]);
        let effect = Effect::known(None, Some(5), &applied, DAY + 4);
        assert_eq!(effect.surplus(&applied, 2, DAY + 5), [2, 3]);
        // The current set's time counts until now, and the set before it is needed for a step back.
        assert_eq!(effect.surplus(&applied, 0, 3 * DAY), [2, 3]);
        assert_eq!(effect.surplus(&applied, 5, DAY + 5), [0; 0]);
    }
}
