//! What `/metrics` answers, read as Prometheus reads it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use regex::Regex;

use crate::support::{Server, http};

/// One answer of `/metrics`.
pub(crate) struct Figures {
    /// By name; a histogram's name has no suffix.
    pub(crate) told: BTreeMap<String, About>,
    /// Each line that is not a comment.
    series: Vec<Series>,
}

/// The HELP and TYPE of a name.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) kind: String,
    pub(crate) help: String,
}

#[derive(Debug)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Figures {
    pub(crate) async fn of(server: &Server) -> Self {
        Self::at(server.address).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Self {
        let answer = http::get(address, "/metrics").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let kind = &answer.headers["content-type"];
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Self::parse(&answer.body)
    }

    fn parse(text: &str) -> Self {
        let comment = Regex::new(r"^# (HELP|TYPE) (\w+) (.+)$").expect("a pattern");
        let series = Regex::new(r"^(\w+)(?:\{(.*)\})? (\S+)$").expect("a pattern");
        let label = Regex::new(r#"(\w+)="([^"\\]*)""#).expect("a pattern");
        let mut figures = Self {
            told: BTreeMap::new(),
            series: Vec::new(),
        };
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(found) = comment.captures(line) {
                let about = figures.told.entry(found[2].to_owned()).or_default();
                match &found[1] {
                    "HELP" => found[3].clone_into(&mut about.help),
                    _ => found[3].clone_into(&mut about.kind),
                }
                continue;
            }
            let found = series.captures(line);
            let found = found.unwrap_or_else(|| panic!("not Prometheus's format: {line}"));
            let labels = found.get(2).map_or("", |labels| labels.as_str());
            let pairs = label.captures_iter(labels);
            figures.series.push(Series {
                name: found[1].to_owned(),
                labels: pairs.map(|l| (l[1].to_owned(), l[2].to_owned())).collect(),
                value: found[3].parse().expect("a number"),
            });
        }
        figures
    }

    /// The value of `name`, or the sum over all series that have these labels.
    #[track_caller]
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut found = self.with(name, labels).peekable();
        assert!(found.peek().is_some(), "no {name} with {labels:?}");
        found.map(|series| series.value).sum()
    }

    /// Whether such a series exists.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.with(name, labels).next().is_some()
    }

    fn with(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(move |series| {
            let has = |(name, value): &(&str, &str)| {
                series.labels.get(*name).map(String::as_str) == Some(*value)
            };
            series.name == name && labels.iter().all(has)
        })
    }

    /// The names of all series, as PromQL spells them: with a histogram's suffixes.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.series.iter().map(|series| &*series.name).collect()
    }

    /// Every label of a name with its values, except a histogram's bounds.
    pub(crate) fn labels(&self, name: &str) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for series in &self.series {
            if family(&series.name, &self.told) == name {
                for (label, value) in series.labels.iter().filter(|(label, _)| *label != "le") {
                    labels.entry(label).or_default().insert(value);
                }
            }
        }
        labels
    }

    /// Each series, as its name and labels.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        let key = |series: &Series| format!("{}{:?}", series.name, series.labels);
        self.series.iter().map(key).collect()
    }
}

/// The name under which HELP and TYPE list a series.
pub(crate) fn family<'a>(series: &'a str, told: &BTreeMap<String, About>) -> &'a str {
    ["_bucket", "_sum", "_count"]
        .iter()
        .filter_map(|suffix| series.strip_suffix(suffix))
        .find(|name| {
            told.get(*name)
                .is_some_and(|about| about.kind == "histogram")
        })
        .unwrap_or(series)
}
