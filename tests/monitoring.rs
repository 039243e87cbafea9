//! The alert rules and the dashboard ask for what nodes export: every metric, every label, and every value of a label that
//! has fixed ones.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Net, eventually, http};
use promql_parser::{
    label::MatchOp,
    parser::{Expr, LabelModifier, VectorSelector, parse},
};
use serde_json::Value;

/// Labels that a scrape adds.
const SCRAPED: [&str; 2] = ["job", "instance"];

/// Labels whose values are the node's own words. The others are names that operators give.
const FIXED: [&str; 8] = ["state", "kind", "lane", "side", "parameter", "property", "role", "reason"];

/// Every series by the name of its metric, as the values of its labels.
type Exported = BTreeMap<String, Vec<BTreeMap<String, String>>>;

fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// What a hub and a client with a stream export.
fn exported() -> Exported {
    let net = Net::up_with_metrics(2, 2, 2, "4MiB");
    net.acquaint("alice", "bob");
    let opened = net.at("alice", &["stream", "open", "--with", "bob"]).output().unwrap();
    assert!(opened.status.success(), "{}", common::error(&opened));
    eventually("the stream is filled", || net.status("alice")["streams"][0]["keys"].as_u64() > Some(0));
    let mut all = Exported::new();
    for node in ["alice", "bob", "p1"] {
        let (status, text) = http::get(net.metrics_port(node), "/metrics");
        assert_eq!(status, 200, "{text}");
        read(&text, &mut all);
    }
    all.entry("up".to_owned()).or_default().push(BTreeMap::new());
    all
}

/// Reads series; the names and labels of the tests' nodes hold no quotes or commas.
fn read(text: &str, all: &mut Exported) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (label, value) = label.split_once('=').unwrap();
            (label.to_owned(), value.trim_matches('"').to_owned())
        });
        all.entry(name.to_owned()).or_default().push(labels.collect());
    }
}

/// The queries of the rules. Each stands on one line, which is counted.
fn of_rules() -> Vec<String> {
    let text = fs::read_to_string(deployed("prometheus/dske.rules.yml")).unwrap();
    let lines = || text.lines().map(str::trim);
    let queries: Vec<String> =
        lines().filter_map(|line| line.strip_prefix("expr: ")).map(str::to_owned).collect();
    let rules = lines().filter(|line| line.starts_with("- alert:") || line.starts_with("- record:")).count();
    assert!(rules > 10 && queries.len() == rules, "{} queries in {rules} rules", queries.len());
    queries
}

/// The queries of the dashboard, with something in the place of its variables.
fn of_dashboard() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(deployed("grafana/dske.json")).unwrap()).unwrap();
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["definition"].as_str() {
            let inner = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
            let (selector, label) = inner.rsplit_once(", ").unwrap();
            queries.push(format!("count by ({label}) ({selector})"));
        }
    }
    let filled = |query: &String| query.replace("$__rate_interval", "5m").replace(['$'], "");
    queries.iter().map(filled).collect()
}

fn collect(value: &Value, queries: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            queries.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect(field, queries));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, queries)),
        _ => {}
    }
}

/// Calls the two with every selector of a query, and with the labels by which it groups or joins.
fn walk(expr: &Expr, selector: &mut dyn FnMut(&VectorSelector), labels: &mut dyn FnMut(&str)) {
    let mut modified = |modifier: &Option<LabelModifier>| {
        if let Some(LabelModifier::Include(names) | LabelModifier::Exclude(names)) = modifier {
            names.labels.iter().for_each(|label| labels(label));
        }
    };
    match expr {
        Expr::VectorSelector(vector) => selector(vector),
        Expr::MatrixSelector(matrix) => selector(&matrix.vs),
        Expr::Aggregate(aggregate) => {
            modified(&aggregate.modifier);
            walk(&aggregate.expr, selector, labels);
        }
        Expr::Binary(binary) => {
            if let Some(modifier) = &binary.modifier {
                modified(&modifier.matching);
            }
            walk(&binary.lhs, selector, labels);
            walk(&binary.rhs, selector, labels);
        }
        Expr::Call(call) => call.args.args.iter().for_each(|argument| walk(argument, selector, labels)),
        Expr::Unary(unary) => walk(&unary.expr, selector, labels),
        Expr::Paren(paren) => walk(&paren.expr, selector, labels),
        Expr::Subquery(subquery) => walk(&subquery.expr, selector, labels),
        _ => {}
    }
}

/// What is wrong with a query.
fn problems(query: &str, exported: &Exported) -> Vec<String> {
    let expr = match parse(query) {
        Ok(expr) => expr,
        Err(error) => return vec![format!("{query}: {error}")],
    };
    let (mut problems, mut known, mut grouped) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut selector = |vector: &VectorSelector| {
        let name = vector.name.clone().unwrap_or_default();
        let Some(series) = exported.get(&name) else {
            problems.push(format!("{query}: no node exports {name:?}"));
            return;
        };
        known.extend(series.iter().flat_map(|labels| labels.keys().cloned()));
        for matcher in &vector.matchers.matchers {
            let label = matcher.name.as_str();
            if SCRAPED.contains(&label) {
                continue;
            }
            let values: BTreeSet<&String> = series.iter().filter_map(|labels| labels.get(label)).collect();
            if values.is_empty() {
                problems.push(format!("{query}: {name} has no label {label:?}"));
            } else if FIXED.contains(&label) {
                let wanted: Vec<&str> = match &matcher.op {
                    MatchOp::Re(_) | MatchOp::NotRe(_) => matcher.value.split('|').collect(),
                    _ => vec![&matcher.value],
                };
                let missing = wanted.into_iter().filter(|value| !values.iter().any(|there| there == value));
                problems
                    .extend(missing.map(|value| format!("{query}: {label} of {name} is never {value:?}")));
            }
        }
    };
    walk(&expr, &mut selector, &mut |label| {
        grouped.insert(label.to_owned());
    });
    let strange =
        grouped.iter().filter(|label| !known.contains(*label) && !SCRAPED.contains(&label.as_str()));
    problems.extend(strange.map(|label| format!("{query}: nothing in it has a label {label:?}")));
    problems
}

#[test]
fn rules_and_dashboard_ask_for_what_nodes_export() {
    let exported = exported();
    let (rules, dashboard) = (of_rules(), of_dashboard());
    assert!(dashboard.len() > 30, "{}", dashboard.len());
    let found: Vec<String> =
        rules.iter().chain(&dashboard).flat_map(|query| problems(query, &exported)).collect();
    assert!(found.is_empty(), "{found:#?}");
    // What nobody looks at need not be exported.
    let queries = [rules, dashboard].concat().join("\n");
    let base = |name: &str| {
        ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    let unseen: BTreeSet<String> = exported
        .keys()
        .filter(|name| name.starts_with("dske_"))
        .map(|name| base(name))
        .filter(|name| !queries.contains(name.as_str()))
        .collect();
    assert!(unseen.is_empty(), "no rule and no panel shows {unseen:?}");
}

#[test]
fn what_is_wrong_with_a_query_is_found() {
    let mut exported = Exported::new();
    read("dske_tables{state=\"active\"} 1\ndske_ready 1\n", &mut exported);
    let wrong = |query: &str| problems(query, &exported).len();
    assert_eq!(wrong("sum by (job, state) (rate(dske_tables{state=\"active\"}[5m])) / dske_ready"), 0);
    for query in [
        "dske_table == 1",
        "dske_tables{stat=\"active\"}",
        "dske_tables{state=~\"active|gone\"}",
        "sum by (stat) (dske_tables)",
        "dske_tables < on (hub) dske_ready",
        "rate(dske_tables[5m]",
    ] {
        assert_eq!(wrong(query), 1, "{query}");
    }
}

#[test]
fn promtool_takes_the_rules_and_their_tests_pass() {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("skipped: promtool is not installed (apt-get install prometheus)");
        return;
    }
    for arguments in [["check", "rules", "dske.rules.yml"], ["test", "rules", "dske.tests.yml"]] {
        let mut promtool = Command::new("promtool");
        let output = promtool.args(arguments).current_dir(deployed("prometheus")).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("SUCCESS"), "{arguments:?}: {said}");
    }
}
