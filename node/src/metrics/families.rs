//! Families of metrics that are made anew from a snapshot at each look: no state that could differ from the node's.

use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, Opts, Registry, Result, TextEncoder,
    core::{Collector, MetricVec, MetricVecBuilder},
};

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Families(Registry);

/// A row: the values of its labels, in the family's order, and its figure.
pub(super) type Row<'a, const LABELS: usize, T> = ([&'a str; LABELS], T);

impl Families {
    /// Something that goes up and down. Rows with the same labels are added up.
    pub(super) fn gauges<'a, const LABELS: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; LABELS],
        rows: impl IntoIterator<Item = Row<'a, LABELS, f64>>,
    ) -> Result<()> {
        self.filled(GaugeVec::new(Opts::new(name, help), &labels)?, rows, Gauge::add)
    }

    /// Something that only goes up. Rows with the same labels are added up.
    pub(super) fn counters<'a, const LABELS: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; LABELS],
        rows: impl IntoIterator<Item = Row<'a, LABELS, u64>>,
    ) -> Result<()> {
        self.filled(IntCounterVec::new(Opts::new(name, help), &labels)?, rows, IntCounter::inc_by)
    }

    fn filled<'a, const LABELS: usize, T, B: MetricVecBuilder + 'static>(
        &self,
        family: MetricVec<B>,
        rows: impl IntoIterator<Item = Row<'a, LABELS, T>>,
        add: impl Fn(&B::M, T),
    ) -> Result<()> {
        for (values, figure) in rows {
            add(&family.get_metric_with_label_values(&values)?, figure);
        }
        self.kept(family)
    }

    /// One figure that goes up and down.
    pub(super) fn gauge(&self, name: &str, help: &str, figure: f64) -> Result<()> {
        self.gauges(name, help, [], [([], figure)])
    }

    /// One figure that only goes up.
    pub(super) fn counter(&self, name: &str, help: &str, figure: u64) -> Result<()> {
        self.counters(name, help, [], [([], figure)])
    }

    /// One that keeps its own count.
    pub(super) fn kept(&self, collector: impl Collector + 'static) -> Result<()> {
        self.0.register(Box::new(collector))
    }

    /// The text that Prometheus reads.
    pub(super) fn text(&self) -> Result<String> {
        TextEncoder::new().encode_to_string(&self.0.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_in_a_label_is_escaped() {
        let families = Families::default();
        let hostile = "p1\"} 7\n# HELP x\\";
        families.gauges("dske_x", "X", ["peer"], [([hostile], 1.5)]).unwrap();
        let text = families.text().unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains(r#"dske_x{peer="p1\"} 7\n# HELP x\\"} 1.5"#), "{text}");
    }

    #[test]
    fn rows_of_one_name_are_added_up() {
        let families = Families::default();
        families.counters("dske_y_total", "Y", ["peer"], [(["p1"], 2), (["p1"], 3)]).unwrap();
        assert!(families.text().unwrap().contains("dske_y_total{peer=\"p1\"} 5"));
    }
}
