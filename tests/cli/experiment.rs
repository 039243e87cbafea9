//! `dske bench shares | tags` and `dske experiment`, small: the files that they write and what stands in them. No
//! test looks at how long anything took.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Place, bad, dske, good, run, stderr};

fn document(text: &str) -> Value {
    let value: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(value["schema_version"], 1);
    value
}

/// The rows of a table, each as its cells by column.
fn table(file: &Path) -> Vec<Vec<(String, String)>> {
    let text = fs::read_to_string(file).expect("the table");
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().expect("names").split(',').collect();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), names.len(), "{line}");
        names.iter().zip(cells).map(|(name, cell)| ((*name).to_owned(), cell.to_owned())).collect()
    };
    lines.map(row).collect()
}

fn cell<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    &row.iter().find(|(column, _)| column == name).expect("the column").1
}

fn number(row: &[(String, String)], name: &str) -> f64 {
    cell(row, name).parse().unwrap_or_else(|_| panic!("{name} is a number"))
}

/// All four files are there; the pictures are whole.
fn assert_files(place: &Place, name: &str) {
    let file = |ending: &str| fs::read(place.path(&format!("{name}.{ending}"))).expect("the file");
    let png = file("png");
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xaeB`\x82"));
    let svg = String::from_utf8(file("svg")).expect("text");
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>") && svg.contains("<title>"));
    let tags = |tag: &str| svg.matches(tag).count();
    assert_eq!(tags("<text "), tags("</text>"));
    assert!(!svg.contains("NaN"));
}

#[test]
fn thresholds_are_where_the_paper_puts_them_and_nobody_is_deceived_below_k_min() {
    let place = Place::new();
    let out = place.path("");
    let arguments =
        ["--json", "experiment", "thresholds", "--runs", "4", "--scheme", "3,2", "--scheme", "5,3,2"];
    let printed = good(dske(&arguments).arg("--out").arg(&out));
    assert_files(&place, "thresholds");
    let kept = fs::read_to_string(place.path("thresholds.json")).expect("the document");
    assert_eq!(printed, kept);
    let rows = document(&kept)["rows"].as_array().expect("rows").len();
    let table = table(&place.path("thresholds.csv"));
    // Nine kinds of attack, and from none to all hubs.
    assert_eq!((table.len(), rows), (9 * (4 + 6), 9 * (4 + 6)));
    for row in &table {
        let of = |name| number(row, name);
        let (n, k, k_min, bad) = (of("n"), of("k"), of("k_min"), of("bad"));
        let borne = (n - k + 1.0).min(k_min) - 1.0;
        assert_eq!(of("borne_predicted"), borne, "{row:?}");
        let deceived = of("wrong_key") + of("wrong_name");
        assert_eq!(of("agreed") + of("aborted") + deceived, 4.0, "{row:?}");
        assert_eq!(of("success_rate"), of("agreed") / 4.0, "{row:?}");
        if bad <= borne {
            assert_eq!(of("success_rate"), 1.0, "{row:?}");
        }
        if bad < k_min {
            assert_eq!(deceived, 0.0, "{row:?}");
        }
        let attack = cell(row, "attack");
        match attack {
            // Hubs that inject a key stop the sender's as soon as the threshold is passed, and never quietly before.
            "injection" => assert_eq!(of("agreed"), if bad > borne { 0.0 } else { 4.0 }, "{row:?}"),
            "false-identity" | "mixed" => {}
            // Whatever happens to n - k shares is borne; beyond, there is no key, nor a wrong one.
            _ => {
                assert_eq!(of("agreed"), if bad > n - k { 0.0 } else { 4.0 }, "{row:?}");
                assert_eq!(deceived, 0.0, "{row:?}");
            }
        }
    }
    // The same seed gives the same results.
    let again = place.path("again");
    good(dske(&arguments).arg("--out").arg(&again));
    let read = |path: &Path| fs::read(path).expect("the table");
    assert_eq!(read(&again.join("thresholds.csv")), read(&place.path("thresholds.csv")));
}

#[test]
fn fig5_measures_every_n_and_k() {
    let place = Place::new();
    let out = place.path("new/place");
    let printed = good(
        dske(&["experiment", "fig5", "--n-max", "5", "--bits", "8000", "--runs", "2", "--out"]).arg(&out),
    );
    assert!(printed.contains("RECEIVER") && printed.contains("the paper says"), "{printed}");
    assert_files(&place, "new/place/fig5");
    let table = table(&out.join("fig5.csv"));
    let grid: BTreeSet<(u8, u8)> =
        table.iter().map(|row| (cell(row, "n").parse().unwrap(), cell(row, "k").parse().unwrap())).collect();
    assert_eq!(grid, (1..=5).flat_map(|n| (1..=n).map(move |k| (n, k))).collect());
    let kept = document(&fs::read_to_string(out.join("fig5.json")).expect("the document"));
    assert_eq!(
        (&kept["bits"], &kept["runs"], &kept["paper_ms_per_mbit"]),
        (&8000.into(), &2.into(), &1.0.into())
    );
    let names = ["sender", "sender_shares", "receiver", "receiver_to_key", "receiver_reconstruction"];
    for (row, point) in table.iter().zip(kept["points"].as_array().expect("points")) {
        for name in names.map(|name| format!("{name}_ms_per_mbit")) {
            assert!(number(row, &name) > 0.0, "{row:?}");
            assert!(point[&name].as_f64().is_some_and(|value| value > 0.0), "{point}");
        }
    }
}

#[test]
fn an_experiment_that_is_interrupted_says_so_and_leaves_no_figures() {
    let place = Place::new();
    let out = place.path("results");
    let mut command = dske(&["experiment", "fig5", "--runs", "10000", "--out"]);
    let mut child = command.arg(&out).stderr(Stdio::null()).spawn().expect("starts");
    // Made when signals are already heard.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !out.exists() {
        assert!(Instant::now() < deadline, "it does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert_eq!(fs::read_dir(&out).expect("the directory").count(), 0);
}

#[test]
fn the_arithmetic_is_measured_for_all_that_is_asked() {
    let shares = document(&good(&mut dske(&[
        "--json", "bench", "shares", "-n", "4,3", "-k", "2,3", "--bytes", "32,1KiB", "--time", "1ms",
    ])));
    let rows = shares["rows"].as_array().expect("rows");
    // (4,2), (4,3), (3,2), (3,3): three operations and one for each number of false shares, none included, at two
    // lengths.
    assert_eq!(rows.len(), 2 * (6 + 5 + 5 + 4));
    assert!(shares["measured"].as_str().is_some_and(|text| text.contains("false")));
    let tags = document(&good(&mut dske(&["--json", "bench", "tags", "--bytes", "64", "--time", "1ms"])));
    let names: Vec<_> = tags["rows"].as_array().expect("rows").iter().map(|row| &row["operation"]).collect();
    assert_eq!(names, ["tag", "check", "key tag"]);
    for row in rows.iter().chain(tags["rows"].as_array().expect("rows")) {
        assert!(row["mbit_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{row}");
    }
    let text = good(&mut dske(&["bench", "shares", "--bytes", "32", "--time", "1ms"]));
    assert!(text.contains("the paper gives about 1 ms/Mbit") && text.contains("4 false"), "{text}");
}

#[test]
fn experiments_and_benches_refuse_what_makes_no_sense() {
    bad(&mut dske(&["experiment", "thresholds", "--scheme", "3,4"]), 2);
    bad(&mut dske(&["experiment", "thresholds", "--attacks", "rain"]), 2);
    bad(&mut dske(&["experiment", "fig5", "--n-max", "21"]), 2);
    bad(&mut dske(&["experiment", "fig5", "--bits", "16Mibit"]), 2);
    bad(&mut dske(&["bench", "shares", "-n", "3", "-k", "4"]), 2);
    bad(&mut dske(&["bench", "shares", "--bytes", "2MiB"]), 2);
    bad(&mut dske(&["bench", "tags", "--bytes", "2MiB"]), 2);
    let place = Place::new();
    fs::write(place.path("file"), "").expect("written");
    let output = run(dske(&["experiment", "fig5", "--out"]).arg(place.path("file")));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot create"), "{}", stderr(&output));
}
