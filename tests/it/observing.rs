//! What docs/metrics.md, the dashboard and the alerts say about metrics, compared with the metrics themselves.

use std::{collections::BTreeSet, fs};

use regex::Regex;
use yaml_rust2::{Yaml, YamlLoader};

use crate::figures::{Figures, family};
use crate::support::{Redis, Server, Value, server::repository};

/// What each expression may name besides metrics.
const PROMQL: &[&str] = &[
    "by",
    "changes",
    "count",
    "histogram_quantile",
    "increase",
    "rate",
    "sum",
];

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metrics of a server that has all of them: it has a connection for confirmations too.
async fn all_figures() -> Figures {
    let redis = Redis::start_tcp().await;
    for setting in ["appendonly yes", "appendfsync always"] {
        let _: String = redis.run(&format!("CONFIG SET {setting}")).await;
    }
    let server = Server::on(&redis).env("DURABILITY", "fsync").start().await;
    Figures::of(&server).await
}

/// The table of docs/metrics.md, generated from the metrics.
fn table(figures: &Figures) -> String {
    let mut table = "| name | type | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for (name, about) in &figures.told {
        let labels = figures.labels(name);
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, values)| format!("`{label}`{}", described(label, values)))
            .collect();
        let labels = match labels.is_empty() {
            true => "none".to_owned(),
            false => labels.join(", "),
        };
        let (kind, help) = (&about.kind, &about.help);
        table.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
    table
}

/// The values of a label, unless its name says all.
fn described(label: &str, values: &BTreeSet<&str>) -> String {
    if ["script", "version", "contract"].contains(&label) {
        return String::new();
    }
    let is_code = |value: &&str| value.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let (codes, others): (Vec<&str>, Vec<&str>) = values.iter().partition(|value| is_code(value));
    let mut texts: Vec<String> = others.iter().map(|value| format!("`{value}`")).collect();
    match codes.len() {
        0 => {}
        1..5 => texts.extend(codes.iter().map(|code| format!("`{code}`"))),
        _ => texts.push("an error code".to_owned()),
    }
    format!(" ({})", texts.join(", "))
}

#[tokio::test]
async fn the_page_of_metrics_lists_every_figure_as_it_is_told() {
    let expected = table(&all_figures().await);
    let page = read("docs/metrics.md");
    let section = page
        .split("\n## ")
        .find(|part| part.starts_with("The figures\n"));
    let rows = section.expect("a section of figures").lines();
    let rows: Vec<&str> = rows.filter(|line| line.starts_with('|')).collect();
    assert_eq!(
        rows,
        expected.lines().collect::<Vec<_>>(),
        "it should be:\n{expected}"
    );
}

#[tokio::test]
async fn names_and_types_are_as_prometheus_has_them() {
    let figures = all_figures().await;
    for (name, about) in &figures.told {
        let kind = about.kind.as_str();
        assert!(
            ["counter", "gauge", "histogram"].contains(&kind),
            "{name} {kind}"
        );
        assert!(!about.help.is_empty(), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} {kind}");
        assert!(
            name.starts_with("chat_") || name.starts_with("process_"),
            "{name}"
        );
    }
    for name in figures.names() {
        assert!(
            figures.told.contains_key(family(name, &figures.told)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_alerts_are_rules_about_figures_that_there_are() {
    let figures = all_figures().await;
    let documents = YamlLoader::load_from_str(&read("deploy/alerts.yaml")).expect("YAML");
    let [document] = documents.as_slice() else {
        panic!("one document");
    };
    let groups = document["groups"].as_vec().expect("groups");
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_vec().expect("rules"));
    let manual = read("docs/operating.md");
    let manual = manual.split_once("\n## Alerts\n").expect("a section").1;
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        assert!(names.insert(name), "{name} is there twice");
        check(&figures, rule["expr"].as_str().expect("an expression"));
        let severity = rule["labels"]["severity"].as_str().expect("a severity");
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        for text in ["summary", "description"] {
            let text = &rule["annotations"][text];
            assert!(
                matches!(text, Yaml::String(text) if !text.is_empty()),
                "{name}"
            );
        }
    }
    let explained = Regex::new("`(Chat[A-Za-z]+)`").expect("a pattern");
    let explained: BTreeSet<&str> = explained
        .captures_iter(manual)
        .filter_map(|found| Some(found.get(1)?.as_str()))
        .collect();
    assert_eq!(names, explained);
}

#[tokio::test]
async fn the_dashboard_draws_every_figure() {
    let figures = all_figures().await;
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana.json")).expect("JSON");
    let of = |value: &Value| value.as_array().expect("a list").clone();
    let variables = of(&dashboard["templating"]["list"]);
    let variable = |name: &str| variables.iter().find(|variable| variable["name"] == name);
    assert_eq!(variable("datasource").expect("it")["type"], "datasource");
    let servers = variable("instance").expect("it")["definition"].clone();
    assert_eq!(servers, "label_values(chat_build_info, instance)");

    let (mut drawn, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in of(&dashboard["panels"]) {
        assert!(ids.insert(panel["id"].as_u64()), "twice: {panel}");
        let place = &panel["gridPos"];
        let right = place["x"].as_u64().zip(place["w"].as_u64());
        assert!(right.is_some_and(|(x, w)| x + w <= 24), "{place}");
        if panel["type"] == "row" {
            continue;
        }
        let targets = of(&panel["targets"]);
        assert!(!targets.is_empty(), "nothing in {}", panel["title"]);
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            let expression = target["expr"].as_str().expect("an expression").to_owned();
            drawn.extend(check(&figures, &expression));
        }
    }
    let all = figures.told.keys().filter(|name| {
        // The size of the address space says little.
        *name != "process_virtual_memory_bytes"
    });
    let missing: Vec<&String> = all.filter(|name| !drawn.contains(*name)).collect();
    assert_eq!(missing, [""; 0], "not drawn");
}

/// Checks that an expression names only metrics, labels and values that exist. Returns the metrics' names.
fn check(figures: &Figures, expression: &str) -> BTreeSet<String> {
    let selector = Regex::new(r"(\w+)\{([^}]*)\}").expect("a pattern");
    let matcher = Regex::new(r#"(\w+)(=~|!=|!~|=)"([^"]*)""#).expect("a pattern");
    let grouping = Regex::new(r"\bby \(([^)]*)\)").expect("a pattern");
    let word = Regex::new(r"[A-Za-z_]\w*").expect("a pattern");
    for found in selector.captures_iter(expression) {
        for label in matcher.captures_iter(&found[2]) {
            // Prometheus's own labels, which depend on where it finds the servers.
            if !["job", "instance"].contains(&&label[1]) {
                let there = figures.has(&found[1], &[(&label[1], &label[3])]);
                assert!(there, "no {} in {expression}", &label[0]);
            }
        }
    }
    let bare = selector.replace_all(expression, "$1");
    let range = Regex::new(r"\[[^\]]*\]").expect("a pattern");
    let bare = range.replace_all(&bare, "");
    let words = grouping.replace_all(&bare, "by");
    let (names, told) = (figures.names(), &figures.told);
    let mut used = BTreeSet::new();
    for found in word.find_iter(&words).map(|found| found.as_str()) {
        if PROMQL.contains(&found) || found == "up" {
            continue;
        }
        assert!(names.contains(found), "no {found}: {expression}");
        used.insert(family(found, told).to_owned());
    }
    for labels in grouping.captures_iter(&bare) {
        for label in labels[1].split(',').map(str::trim) {
            let mut has = used.iter().map(|name| figures.labels(name));
            let there = has.any(|labels| labels.contains_key(label));
            assert!(
                there || ["instance", "le"].contains(&label),
                "no {label}: {expression}"
            );
        }
    }
    used
}
