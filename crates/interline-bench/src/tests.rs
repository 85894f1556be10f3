//! Whether slower shows as slower: the measuring and the judging, on a clock that is only set
//! forward by hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use interline_bus::{Bus, Handled, State};
use interline_core::{Outgoing, Publisher, PublisherOptions, Topic, Transport};

use crate::Result;
use crate::baseline::Baseline;
use crate::broker::Count;
use crate::clock::{Clock, Inside, Outside};
use crate::latency::{Waits, histogram};
use crate::measure::{Plan, Round, Watch, alternate, median, one_core};
use crate::ours::{Meter, PATIENCE};
use crate::report::{Row, Target};
use crate::sample::envelopes;
use crate::series::{Point, Series};

const EVENTS: usize = 1_000;
const PLAN: Plan = Plan {
    rounds: 5,
    divide: 1,
};
const TARGET: Target = Target::Beside {
    ratio: 0.95,
    cpu_us: 0.3,
};
const MICRO: Duration = Duration::from_micros(1);

/// A machine on which nothing takes time but what it is told to do.
#[derive(Clone, Debug, Default)]
struct Made(Arc<Mutex<(Inside, Outside)>>);

impl Clock for Made {
    fn inside(&self) -> Inside {
        self.0.lock().unwrap().0
    }

    fn outside(&self) -> Outside {
        self.0.lock().unwrap().1
    }
}

impl Made {
    fn new() -> Self {
        let made = Self::default();
        made.0.lock().unwrap().1 = Outside {
            server: Some(Duration::ZERO),
            all: Some(Duration::ZERO),
        };
        made
    }

    /// This process works.
    fn work(&self, time: Duration) {
        self.0.lock().unwrap().0.wall += time;
        self.work_beside(time);
    }

    /// Another thread of this process works meanwhile.
    fn work_beside(&self, time: Duration) {
        self.0.lock().unwrap().0.cpu += time;
        self.disturb(time);
    }

    /// Another process works meanwhile.
    fn disturb(&self, time: Duration) {
        *self.0.lock().unwrap().1.all.as_mut().unwrap() += time;
    }

    /// The server works meanwhile.
    fn serve(&self, time: Duration) {
        self.disturb(time);
        *self.0.lock().unwrap().1.server.as_mut().unwrap() += time;
    }

    /// A loop by hand in which every event costs this.
    fn by_hand(&self, cost: Duration) -> Result<Round> {
        let watch = Watch::on(self.clone());
        (0..EVENTS).for_each(|_| self.work(cost));
        Ok(watch.stop(EVENTS))
    }

    /// The same while something else goes on.
    fn by_hand_while(&self, other: impl Fn(&Self)) -> Result<Round> {
        let watch = Watch::on(self.clone());
        self.by_hand(MICRO)?;
        other(self);
        Ok(watch.stop(EVENTS))
    }

    /// A real bus over memory in which every event costs this.
    fn by_bus(&self, cost: Duration) -> Result<Round> {
        one_core()?.block_on(async {
            let transport = crate::site::connect("memory://").await?;
            let bus = Bus::new(transport.clone());
            let meter = Meter::late(self.clone(), EVENTS);
            let made = self.clone();
            let counted = move |State(meter): State<Arc<Meter<Self>>>| {
                made.work(cost);
                meter.one();
                std::future::ready(Handled::Ok(()))
            };
            let group = bus.group("g").topics("t").state(Arc::clone(&meter));
            let workers = group.on_raw("*", counted).start().await?;
            let publisher = transport.publisher(PublisherOptions::default()).await?;
            let topic = Topic::new("t")?;
            let events = envelopes(EVENTS, 1)?.into_iter();
            let events = events.map(|event| Outgoing::new(topic.clone(), event));
            publisher.enqueue(events.collect()).await?.await;
            let round = meter.round().await?;
            workers.drain(PATIENCE).await?.into_result()?;
            Ok(round)
        })
    }
}

fn row(ours: &mut dyn FnMut() -> Result<Round>, raw: &mut dyn FnMut() -> Result<Round>) -> Row {
    let [ours, raw] = alternate(PLAN, [ours, raw]).unwrap();
    Row::beside(("memory", "made", 128), &ours, &raw, TARGET)
}

fn is_near(value: Option<f64>, expected: f64) -> bool {
    (value.unwrap() - expected).abs() < 1e-6
}

#[test]
fn as_fast_as_raw_is_met() {
    let made = Made::new();
    let row = row(&mut || made.by_bus(MICRO), &mut || made.by_hand(MICRO));
    assert!(is_near(row.ratio, 1.0) && is_near(row.cpu_over_raw_us, 0.0));
    assert!(is_near(Some(row.ours), 1e6) && is_near(row.raw, 1e6));
    assert_eq!(row.met, Some(true));
    assert!(row.is_whole());
}

#[test]
fn a_slower_bus_is_below() {
    let made = Made::new();
    let row = row(&mut || made.by_bus(2 * MICRO), &mut || made.by_hand(MICRO));
    assert!(is_near(row.ratio, 0.5) && is_near(row.cpu_over_raw_us, 1.0));
    assert_eq!(row.met, Some(false));
}

#[test]
fn a_slower_raw_loop_raises_the_ratio() {
    let made = Made::new();
    let row = row(&mut || made.by_bus(MICRO), &mut || made.by_hand(3 * MICRO));
    assert!(is_near(row.ratio, 3.0) && is_near(row.cpu_over_raw_us, -2.0));
    assert_eq!(row.met, Some(true));
}

#[test]
fn as_fast_but_at_the_cost_of_another_processor_is_below() {
    let made = Made::new();
    let mut ours = || made.by_hand_while(|made| made.work_beside(EVENTS as u32 * MICRO));
    let row = row(&mut ours, &mut || made.by_hand(MICRO));
    assert!(is_near(row.ratio, 1.0) && is_near(row.cpu_over_raw_us, 1.0));
    assert_eq!(row.met, Some(false));
}

#[test]
fn the_server_is_told_from_others() {
    let made = Made::new();
    let mut ours = || made.by_hand_while(|made| made.serve(EVENTS as u32 * 2 * MICRO));
    let row = row(&mut ours, &mut || made.by_hand(MICRO));
    assert!(is_near(row.server_us, 2.0) && is_near(row.raw_server_us, 0.0));
    assert!(is_near(row.foreign, 0.0));
    assert_eq!(row.met, Some(true));
}

#[test]
fn a_disturbed_run_judges_nothing() {
    let made = Made::new();
    let mut ours = || made.by_hand_while(|made| made.disturb(EVENTS as u32 * MICRO / 2));
    let row = row(&mut ours, &mut || made.by_hand(MICRO));
    assert!(is_near(row.foreign, 0.5));
    assert_eq!(row.met, None);
    assert!(row.verdict().starts_with("not judged: others kept 0.5"));
    assert!(row.is_whole(), "its figures are shown all the same");
}

#[test]
fn a_disturbed_raw_side_judges_nothing() {
    let made = Made::new();
    let mut raw = || made.by_hand_while(|made| made.disturb(EVENTS as u32 * MICRO / 2));
    let row = row(&mut || made.by_hand(MICRO), &mut raw);
    assert!(is_near(row.foreign, 0.5));
    assert_eq!(row.met, None);
}

#[test]
fn a_slow_start_of_a_raw_loop_is_no_part_of_its_rate() {
    let made = Made::new();
    let mut raw = || {
        let mut count = Count::new(made.clone(), EVENTS);
        for number in 0..EVENTS {
            made.work(if number < EVENTS / 10 {
                100 * MICRO
            } else {
                MICRO
            });
            count.one();
        }
        assert!(count.is_over());
        count.round()
    };
    let row = row(&mut || made.by_bus(2 * MICRO), &mut raw);
    assert!(is_near(row.raw, 1e6) && is_near(row.ratio, 0.5));
    assert_eq!(row.met, Some(false));
}

#[test]
fn a_rate_by_itself_is_judged() {
    let made = Made::new();
    let judge = |cost: Duration, target| {
        let rounds = [made.by_hand(cost).unwrap()];
        Row::alone(("memory", "made", 128), &rounds, Target::Rate(target)).met
    };
    assert_eq!(judge(MICRO, 1e6), Some(true));
    assert_eq!(judge(2 * MICRO, 1e6), Some(false));
}

#[test]
fn a_fixed_rate_is_judged_by_its_tail() {
    let made = Made::new();
    let judge = |slow: u64, disturbed: Duration| {
        let mut waits = histogram().unwrap();
        waits.record_n(1_000_000, 97).unwrap();
        waits.record_n(20_000_000, slow).unwrap();
        let round = made.by_hand_while(|made| made.disturb(disturbed)).unwrap();
        let target = Target::Within(10e3);
        Row::paced(("memory", "made", 128), &round, Waits::of(&waits), target).met
    };
    assert_eq!(judge(0, Duration::ZERO), Some(true));
    assert_eq!(judge(3, Duration::ZERO), Some(false));
    assert_eq!(judge(0, EVENTS as u32 * MICRO), None);
}

#[test]
fn rounds_that_lie_apart_judge_nothing() {
    let made = Made::new();
    let mut costs = [1, 2, 3, 4, 5].into_iter();
    let mut ours = || made.by_hand(costs.next().unwrap() * MICRO);
    let row = row(&mut ours, &mut || made.by_hand(MICRO));
    assert_eq!(row.met, None);
    assert!(row.verdict().starts_with("not judged: rounds"));
}

#[test]
fn a_machine_that_gets_slower_changes_no_ratio() {
    let made = Made::new();
    let (mut round, cost) = (0, |round: u32| (1 + round / 2) * MICRO);
    let mut next = || {
        round += 1;
        cost(round - 1)
    };
    let mut costs: Vec<Duration> = (0..10).map(|_| next()).collect();
    costs.reverse();
    let costs = Mutex::new(costs);
    let mut side = || made.by_hand(costs.lock().unwrap().pop().unwrap());
    let mut other = || made.by_hand(costs.lock().unwrap().pop().unwrap());
    let row = row(&mut side, &mut other);
    assert!(is_near(row.ratio, 1.0) && is_near(Some(row.spread), 0.0));
    assert_eq!(row.met, Some(true));
}

#[test]
fn latency_is_better_when_it_is_less() {
    let made = Made::new();
    let round = |micros: u32| {
        let round = made.by_hand(MICRO).unwrap();
        round.with_waits((1..=100).map(|n| n * micros * MICRO).collect())
    };
    let target = Target::Latency {
        ratio: 1.25,
        cpu_us: 2.0,
    };
    let judge = |ours, raw| {
        let (ours, raw) = ([round(ours)], [round(raw)]);
        Row::latency(("memory", "made", 128), 99, &ours, &raw, target)
    };
    assert!(is_near(judge(1, 1).ratio, 1.0));
    assert_eq!(judge(1, 1).met, Some(true));
    assert!(is_near(judge(3, 2).ratio, 1.5));
    assert_eq!(judge(3, 2).met, Some(false));
    assert_eq!(judge(1, 2).met, Some(true));
}

#[test]
fn tails_may_lie_further_apart() {
    let made = Made::new();
    let target = Target::Latency {
        ratio: 2.0,
        cpu_us: 2.0,
    };
    let judge = |percent| {
        let rounds = |micros: &[u32]| -> Vec<Round> {
            let round = |micros: &u32| {
                made.by_hand(MICRO)
                    .unwrap()
                    .with_waits(vec![*micros * MICRO])
            };
            micros.iter().map(round).collect()
        };
        let (ours, raw) = (rounds(&[8, 9, 10, 12, 13]), rounds(&[10; 5]));
        Row::latency(("memory", "made", 128), percent, &ours, &raw, target).met
    };
    assert_eq!(judge(50), None);
    assert_eq!(judge(99), Some(true));
}

#[test]
fn the_middle_half_decides_about_the_spread() {
    let (middle, spread) = median([9.0, 100.0, 10.0, 11.0, 1.0].into_iter());
    assert_eq!((middle, spread), (10.0, 0.2));
    assert_eq!(median([7.0].into_iter()), (7.0, 0.0));
}

#[test]
fn a_row_without_figures_is_not_whole() {
    let made = Made::new();
    let mut nothing = || Ok(Watch::on(made.clone()).stop(0));
    let row = row(&mut nothing, &mut || made.by_hand(MICRO));
    assert!(!row.is_whole());
}

#[test]
fn worse_than_the_baseline_is_worse_by_more_than_the_spread() {
    let made = Made::new();
    let at = |cost: u32| {
        row(&mut || made.by_hand(cost * MICRO), &mut || {
            made.by_hand(10 * MICRO)
        })
    };
    let earlier = serde_json::to_vec(&[at(10)]).unwrap();
    let baseline = Baseline::parse(&earlier).unwrap();
    assert!(!baseline.change(&at(10)).unwrap().is_worse);
    assert!(!baseline.change(&at(9)).unwrap().is_worse);
    assert!(baseline.change(&at(12)).unwrap().is_worse);
    let apart = String::from_utf8(earlier)
        .unwrap()
        .replace("\"spread\":0.0", "\"spread\":0.3");
    let baseline = Baseline::parse(apart.as_bytes()).unwrap();
    assert!(!baseline.change(&at(12)).unwrap().is_worse);
    assert!(baseline.change(&at(20)).unwrap().is_worse);
}

/// Rounds of `events`, each of which costs `each` beside a start.
fn rounds(made: &Made, events: usize, start: Duration, each: Duration) -> Vec<Round> {
    let round = || {
        let watch = Watch::on(made.clone());
        made.work(start + each * events as u32);
        watch.stop(events)
    };
    (0..PLAN.rounds).map(|_| round()).collect()
}

fn series(made: &Made, costs: &[(usize, Duration)], start: Duration) -> Series {
    let point =
        |(size, each): &(usize, Duration)| Point::of(*size, &rounds(made, *size, start, *each));
    let series = Series::new("memory", "made", costs.iter().map(point).collect());
    series.after(&rounds(made, 0, start, MICRO))
}

#[test]
fn what_costs_the_same_is_flat_whatever_the_start() {
    let made = Made::new();
    let costs = [(100, MICRO), (20_000, MICRO), (100_000, MICRO)];
    let series = series(&made, &costs, 1_000 * MICRO);
    assert!(is_near(series.growth.cpu, 1.0));
    assert_eq!(series.flat, Some(true), "{series}");
    assert!(series.is_whole());
}

#[test]
fn what_costs_more_as_it_grows_is_not_flat() {
    let made = Made::new();
    let costs = [
        (20_000, 2 * MICRO),
        (100_000, MICRO),
        (1_000_000, 2 * MICRO),
    ];
    let grows = series(&made, &costs, MICRO);
    assert!(is_near(grows.growth.time, 2.0));
    assert_eq!(grows.flat, Some(false), "{grows}");
    let shrinks = series(&made, &costs[..2], MICRO);
    assert!(is_near(shrinks.growth.time, 0.5));
    assert_eq!(shrinks.flat, Some(true), "{shrinks}");
}

#[test]
fn sizes_that_the_start_outweighs_do_not_count() {
    let made = Made::new();
    let costs = [(10_000, MICRO), (100_000, 9 * MICRO)];
    let series = series(&made, &costs, 10_000 * MICRO);
    assert_eq!(series.flat, None);
    assert!(series.verdict().contains("no two sizes count"), "{series}");
}

#[test]
fn a_disturbed_series_judges_nothing() {
    let made = Made::new();
    let watch = Watch::on(made.clone());
    made.work(200_000 * MICRO);
    made.disturb(100_000 * MICRO);
    let disturbed = watch.stop(200_000);
    let calm = rounds(&made, 100_000, MICRO, MICRO);
    let points = vec![Point::of(100_000, &calm), Point::of(200_000, &[disturbed])];
    let series = Series::new("memory", "made", points);
    assert_eq!(series.flat, None);
    assert!(
        series.verdict().starts_with("not judged: others kept 0.5"),
        "{series}"
    );
}
