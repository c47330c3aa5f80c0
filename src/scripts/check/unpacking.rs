//! Checks that KEYS and ARGV get the header's names: compares the body's locals with the header.

use super::Findings;
use super::header::{Header, Items};
use super::source::{CountedLoop, ExprId, Given, Kind, Local, Source};

pub(super) fn check(header: &Header, source: &Source, found: &mut Findings) {
    for (array, items) in [("KEYS", &header.keys), ("ARGV", &header.argv)] {
        let unpacking = Unpacking {
            array,
            items,
            source,
            body_line: header.body_line,
        };
        unpacking.fixed(found);
        unpacking.reach(found);
        match items.repeated.is_empty() {
            true => unpacking.uncounted(found),
            false => unpacking.groups(found),
        }
    }
}

struct Unpacking<'a> {
    array: &'static str,
    items: &'a Items,
    source: &'a Source,
    body_line: usize,
}

impl Unpacking<'_> {
    /// Each item in a fixed place has a local of its name, and no other local.
    fn fixed(&self, found: &mut Findings) {
        let mut unpacked = vec![false; self.items.fixed.len()];
        for (local, index) in self.declared() {
            let place = self.source.constant(index).and_then(|i| i.checked_sub(1));
            let Some((place, item)) = place.and_then(|i| Some((i, self.items.fixed.get(i)?)))
            else {
                continue;
            };
            // A wrong name is reported only here.
            unpacked[place] |= local.function.is_none() || local.name != item.name;
            if local.name != item.name {
                let (array, number) = (self.array, place + 1);
                let reason = format!(
                    "`{}` is {array}[{number}], which the header calls `{}`",
                    local.name, item.name
                );
                found.add(local.line, reason);
            }
        }
        for (place, item) in self.items.fixed.iter().enumerate() {
            if !unpacked[place] {
                let number = place + 1;
                let reason = format!("no `local {} = {}[{number}]`", item.name, self.array);
                found.add(self.body_line, reason);
            }
        }
    }

    /// Every local that is declared with `ARRAY[index]` or `tonumber(ARRAY[index])`.
    fn declared(&self) -> impl Iterator<Item = (&Local, ExprId)> {
        self.source.locals.iter().filter_map(|local| {
            let Some(Given::Value(value)) = local.given.first() else {
                return None;
            };
            let inner = self.source.args_of(*value, "tonumber");
            let value = inner.and_then(|args| args.first()).unwrap_or(value);
            Some((local, self.index(*value)?))
        })
    }

    /// The index of `ARRAY[index]`.
    fn index(&self, id: ExprId) -> Option<ExprId> {
        match *self.source.kind(id) {
            Kind::Field(base, index) if self.source.is_global(base, self.array) => Some(index),
            _ => None,
        }
    }

    /// No index exceeds the header's items.
    fn reach(&self, found: &mut Findings) {
        let (array, count) = (self.array, self.items.fixed.len());
        for id in 0..self.source.exprs.len() {
            let number = self.index(id).and_then(|index| self.source.constant(index));
            let Some(number) = number else { continue };
            let beyond = number > count && self.items.repeated.is_empty();
            if number == 0 || beyond {
                let reason =
                    format!("{array}[{number}] is not in the header, which has {count} {array}");
                found.add(self.source.line(id), reason);
            }
        }
    }

    fn is_count(&self, id: ExprId) -> bool {
        matches!(*self.source.kind(id), Kind::Length(of) if self.source.is_global(of, self.array))
    }

    /// Without groups there is nothing to count.
    fn uncounted(&self, found: &mut Findings) {
        let array = self.array;
        for id in (0..self.source.exprs.len()).filter(|id| self.is_count(*id)) {
            let reason = format!("#{array} is used, but the header has no `{array}[n…]`");
            found.add(self.source.line(id), reason);
        }
    }

    /// The groups are iterated from their first place, one group at a time, under the header's names.
    fn groups(&self, found: &mut Findings) {
        let loops = self.source.loops.iter();
        let loops: Vec<&CountedLoop> = loops.filter(|found| self.is_count(found.end)).collect();
        let (start, step) = (self.items.fixed.len() + 1, self.items.repeated.len());
        let (right, wrong): (Vec<_>, Vec<_>) = loops
            .into_iter()
            .partition(|found| self.walks(found, start, step));
        if right.is_empty() {
            let line = wrong.first().map_or(self.body_line, |found| found.line);
            let array = self.array;
            let reason = format!(
                "no loop over {array} from {start} in steps of {step}, as the header's groups are"
            );
            found.add(line, reason);
        }
        if step > 1 {
            self.members(&right, found);
        }
    }

    fn walks(&self, found: &CountedLoop, start: usize, step: usize) -> bool {
        let steps = found
            .step
            .map_or(Some(1), |step| self.source.constant(step));
        self.source.constant(found.start) == Some(start) && steps == Some(step)
    }

    /// A local for a member of a group has the header's name.
    fn members(&self, loops: &[&CountedLoop], found: &mut Findings) {
        for (local, index) in self.declared() {
            let Some(place) = self.place_in_group(loops, index) else {
                continue;
            };
            let (name, text) = (&local.name, self.source.text(index));
            let reason = match self.items.repeated.get(place) {
                Some(item) if item.name == *name => continue,
                Some(item) => format!(
                    "`{name}` is {}[{text}], which the header calls `{}`",
                    self.array, item.name
                ),
                None => format!("{}[{text}] is beyond the header's group", self.array),
            };
            found.add(local.line, reason);
        }
    }

    /// From 0: that of `counter` is 0, that of `counter + 1` is 1.
    fn place_in_group(&self, loops: &[&CountedLoop], index: ExprId) -> Option<usize> {
        let counts = |id: ExprId| match *self.source.kind(id) {
            Kind::Local(local) => loops.iter().any(|found| found.counter == local),
            _ => false,
        };
        match *self.source.kind(index) {
            Kind::Local(_) if counts(index) => Some(0),
            Kind::Add(counter, place) if counts(counter) => self.source.constant(place),
            _ => None,
        }
    }
}
