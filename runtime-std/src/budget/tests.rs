//! The account and the meter over days, crashes and clocks that jump, in virtual time.

use std::cell::Cell;
use std::io::{IoSlice, Write};
use std::rc::Rc;
use std::time::Duration;

use ropeway_core::code::Code;

use super::account::Account;
use super::days::{DAY_S, Look};
use super::meter::{Meter, Way};
use super::socket::Metered;
use super::{Budget, SESSION_MIN_BYTES, Window, Windows};
use crate::dir::DataDir;
use crate::tls::TIME_FLOOR_S;

const NOON: u64 = (TIME_FLOOR_S / DAY_S + 200) * DAY_S + 43_200;
const SLICE: u64 = 16 << 10;

/// A directory on a machine whose clocks the test moves.
struct Scene {
    dir: DataDir,
    look: Rc<Cell<Look>>,
    boot: String,
    _tmp: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let look = Rc::new(Cell::new(Look { wall_s: NOON, up: Duration::from_secs(60) }));
        Self { dir: DataDir::new(tmp.path()), look, boot: "first".to_owned(), _tmp: tmp }
    }

    fn run(&self, s: u64) {
        let Look { wall_s, up } = self.look.get();
        self.look.set(Look { wall_s: wall_s + s, up: up + Duration::from_secs(s) });
    }

    fn boot(&mut self, wall_s: u64) {
        self.boot.push('b');
        self.look.set(Look { wall_s, up: Duration::from_secs(60) });
    }

    fn meter(&self, budget: &Budget) -> crate::Result<Meter> {
        let look = Rc::clone(&self.look);
        let meter = Meter::new(&self.dir, budget, Box::new(move || look.get()), self.boot.clone())?;
        meter.ready(false).inspect_err(|_| meter.with(|m| m.save()))?;
        Ok(meter)
    }

    fn kept(&self) -> Account {
        Account::load(&self.dir).unwrap().unwrap_or_default()
    }
}

fn day(bytes: u64) -> Budget {
    Budget { day_bytes: Some(bytes), ..Budget::default() }
}

/// Moves up to `want` bytes; how many there were.
fn pass(meter: &Meter, want: u64) -> u64 {
    let mut passed = 0;
    while passed < want {
        match meter.allow(Way::Up, (want - passed).min(1400) as usize) as u64 {
            0 => break,
            n => {
                meter.spend(Way::Up, n);
                passed += n;
            }
        }
    }
    passed
}

#[test]
fn a_process_that_is_killed_forgets_nothing_and_costs_a_slice_at_most() {
    let scene = Scene::new();
    let mut used = 0;
    for (round, bytes) in [0, 1, 5_000, SLICE, SLICE + 1, 100_000].into_iter().enumerate() {
        let meter = scene.meter(&day(1 << 30)).unwrap();
        for _ in 0..bytes / 1000 {
            // As slow as 2G.
            scene.run(1);
            used += pass(&meter, 1000);
            assert!(scene.kept().used_today() >= used, "what is used is on the disk before");
        }
        used += pass(&meter, bytes % 1000);
        drop(meter);
        let kept = scene.kept().used_today();
        assert!((used..=used + (round as u64 + 1) * SLICE).contains(&kept), "{kept} for {used}");
    }
    // One that ends as it should gives back what it did not use; what the others left stays counted.
    let before = scene.kept().used_today();
    let meter = scene.meter(&day(1 << 30)).unwrap();
    assert_eq!(pass(&meter, 10_000), 10_000);
    assert_eq!(scene.kept().used_today(), before + SLICE);
    meter.end(Ok(())).unwrap();
    assert_eq!(scene.kept().used_today(), before + 10_000);
}

#[test]
fn all_syncs_of_a_day_together_use_no_more_than_its_budget_and_the_next_day_has_its_own() {
    let scene = Scene::new();
    let mut used = 0;
    for _ in 0..3 {
        let meter = scene.meter(&day(100_000)).unwrap();
        used += pass(&meter, 40_000);
        meter.end(Ok(())).unwrap();
    }
    assert_eq!(used, 100_000);
    let refused = scene.meter(&day(100_000)).unwrap_err();
    assert_eq!(refused.code, Code::Budget);
    assert!(refused.context.contains("100000 of the 100000 bytes"), "{refused}");
    assert!(refused.context.contains("in 12 h 0 min, at 00:00 UTC"), "{refused}");
    // A larger one has room again, and a sync without one is not held up.
    assert_eq!(pass(&scene.meter(&day(150_000)).unwrap(), 1 << 20), 50_000);
    assert_eq!(pass(&scene.meter(&Budget::default()).unwrap(), 1 << 20), 1 << 20);
    scene.run(43_200);
    assert_eq!(pass(&scene.meter(&day(100_000)).unwrap(), 1 << 20), 100_000);
}

#[test]
fn a_sync_over_midnight_uses_what_either_day_has() {
    let scene = Scene::new();
    let meter = scene.meter(&day(50_000)).unwrap();
    assert_eq!(pass(&meter, 1 << 20), 50_000);
    assert_eq!(meter.check("hub").unwrap_err().code, Code::Budget);
    scene.run(43_200);
    assert_eq!(pass(&meter, 20_000), 20_000);
    meter.end(Ok(())).unwrap();
    let days = scene.kept().days;
    assert_eq!(days.iter().map(|d| (d.up, d.ahead)).collect::<Vec<_>>(), [(50_000, 0), (20_000, 0)]);
    assert_eq!(days[1].day, days[0].day + 1);
}

#[test]
fn a_clock_that_boots_in_1970_or_is_set_back_gives_no_fresh_budget_and_locks_nobody_out() {
    for wrong in [0, NOON - 3 * DAY_S] {
        let mut scene = Scene::new();
        assert_eq!(pass(&scene.meter(&day(20_000)).unwrap(), 1 << 20), 20_000);
        let mut boots = 0;
        loop {
            scene.boot(wrong);
            match scene.meter(&day(20_000)) {
                Ok(meter) => break assert_eq!(pass(&meter, 1 << 20), 20_000),
                Err(e) => assert!(e.code == Code::Budget && e.context.contains("set back"), "{e}"),
            }
            boots += 1;
        }
        assert_eq!(boots, 8);
    }
}

#[test]
fn a_file_that_cannot_be_understood_gives_nothing_today_and_all_tomorrow() {
    let scene = Scene::new();
    std::fs::write(scene.dir.root().join("traffic.json"), "{\"version\":1,\"da").unwrap();
    assert_eq!(scene.meter(&day(20_000)).unwrap_err().code, Code::Budget);
    assert_eq!(scene.kept().used_today(), 20_000);
    scene.run(43_200);
    assert_eq!(pass(&scene.meter(&day(20_000)).unwrap(), 1 << 20), 20_000);
    // One of a newer program is not touched.
    let newer = "{\"version\":2}";
    std::fs::write(scene.dir.root().join("traffic.json"), newer).unwrap();
    assert_eq!(scene.meter(&day(20_000)).unwrap_err().code, Code::FormatNewer);
    let meter = scene.meter(&Budget::default()).unwrap();
    assert_eq!(pass(&meter, 20_000), 20_000);
    meter.end(Ok(())).unwrap();
    assert_eq!(std::fs::read_to_string(scene.dir.root().join("traffic.json")).unwrap(), newer);
}

#[test]
fn a_disk_that_takes_nothing_stops_a_sync_with_a_budget_of_the_day_and_no_other() {
    let scene = Scene::new();
    drop(scene.meter(&day(1 << 30)).unwrap().end(Ok(())));
    // A folder in the place of what is written.
    std::fs::create_dir(scene.dir.root().join("traffic.json.tmp")).unwrap();
    let meter = scene.meter(&day(1 << 30)).unwrap();
    assert_eq!(pass(&meter, 1000), 0);
    assert_eq!(meter.check("hub").unwrap_err().code, Code::Io);
    let meter = scene.meter(&Budget::default()).unwrap();
    assert_eq!(pass(&meter, 1000), 1000);
    meter.end(Ok(())).unwrap();
}

#[test]
fn the_windows_and_budgets_of_no_use_are_refused_before_anything_is_done() {
    let scene = Scene::new();
    let window = |text: &str| {
        let windows = Windows::new(&[text.parse::<Window>().unwrap()]).unwrap();
        Budget { windows, ..Budget::default() }
    };
    let shut = scene.meter(&window("22:00-05:00")).unwrap_err();
    assert_eq!(shut.code, Code::Window);
    assert!(shut.context.contains("22:00-05:00; the next opens in 10 h 0 min"), "{shut}");
    let meter = scene.meter(&window("11:00-12:01")).unwrap();
    assert!(meter.with(|m| m.room(false, 0)).is_some());
    scene.run(60);
    assert!(meter.with(|m| m.room(false, 0)).is_none());
    scene.look.set(Look { wall_s: 77, up: Duration::from_secs(60) });
    assert!(scene.meter(&window("22:00-05:00")).is_ok(), "a clock that was never set says nothing");
    let slow = Budget { bytes_per_s: Some(255), ..Budget::default() };
    for bad in [day(4095), Budget { session_bytes: Some(0), ..Budget::default() }, slow] {
        assert_eq!(scene.meter(&bad).unwrap_err().code, Code::BadArgument);
    }
}

#[test]
fn the_last_bytes_are_kept_for_acknowledgements() {
    let scene = Scene::new();
    let meter = scene.meter(&Budget { session_bytes: Some(10_000), ..Budget::default() }).unwrap();
    let room = meter.with(|m| m.room(false, 0)).unwrap();
    assert!((8_500..9_000).contains(&room), "{room}");
    pass(&meter, 8_400);
    assert_eq!((meter.with(|m| m.room(false, 0)), meter.with(|m| m.left())), (None, 1600));
    let end = meter.end(Err(crate::Error::new(Code::Budget, "hub"))).unwrap_err();
    assert_eq!(
        end.context,
        "hub: the 10000 bytes of this sync are used; the next one goes on where it was acknowledged"
    );
}

#[test]
fn a_rate_lets_a_second_of_bytes_through_at_once_in_each_direction() {
    let scene = Scene::new();
    let meter = scene.meter(&Budget { bytes_per_s: Some(2_800), ..Budget::default() }).unwrap();
    assert_eq!(pass(&meter, 1 << 20), 2_800);
    assert!(!meter.is_open(Way::Up) && meter.is_open(Way::Down));
    assert!(meter.at_most(None).is_some_and(|t| t < Duration::from_secs(1)));
    scene.run(1);
    assert_eq!((pass(&meter, 1 << 20), meter.allow(Way::Down, 9999)), (2_800, 2_800));
}

#[test]
fn urgent_events_may_use_more_than_the_day_has_if_they_are_allowed_to() {
    let scene = Scene::new();
    let budget = Budget { urgent_bytes: 10_000, ..day(20_000) };
    let meter = scene.meter(&budget).unwrap();
    pass(&meter, 19_500);
    assert_eq!(meter.with(|m| m.room(true, 0)).map(|room| room / 1000), Some(9));
    assert_eq!(meter.with(|m| m.room(false, 0)), None);
    meter.end(Ok(())).unwrap();
    assert_eq!(scene.meter(&budget).unwrap_err().code, Code::Budget, "nothing urgent waits");
    let look = scene.look.get();
    let meter = Meter::new(&scene.dir, &budget, Box::new(move || look), scene.boot.clone()).unwrap();
    assert!(meter.ready(true).is_ok());
    assert_eq!(pass(&meter, 1 << 20), 10_500);
    assert!(meter.ready(true).is_err());
}

#[test]
fn several_pieces_pass_in_one_write_as_far_as_the_budget_goes() {
    let (scene, pieces) = (Scene::new(), [[1u8; 3000], [2; 3000]]);
    let pieces = pieces.each_ref().map(|piece| IoSlice::new(piece));
    let write = |bytes| {
        let meter = scene.meter(&Budget { session_bytes: Some(bytes), ..Budget::default() }).unwrap();
        let (mut socket, mut count) = (Vec::new(), 0);
        let n = Metered::new(&mut socket, &mut count, &meter).write_vectored(&pieces).ok();
        assert_eq!((n.unwrap_or(0), n.unwrap_or(0) as u64), (socket.len(), count));
        (n, meter)
    };
    assert_eq!(write(1 << 20).0, Some(6000));
    // Not all may pass: then one piece after the other.
    let (most, meter) = write(SESSION_MIN_BYTES);
    assert_eq!(most, Some(3000));
    meter.spend(Way::Up, SESSION_MIN_BYTES);
    let (mut socket, mut count) = (Vec::new(), 0);
    let none = Metered::new(&mut socket, &mut count, &meter).write_vectored(&pieces);
    assert_eq!(none.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn whatever_the_budget_the_limits_of_its_node_are_ones_that_a_node_takes() {
    let odd = |n: u64| [n, n + 1, 2 * n + 77, 1000 * n + 1023, u64::MAX - n];
    for bytes in odd(SESSION_MIN_BYTES).into_iter().chain([100_001]) {
        for budget in [
            Budget { session_bytes: Some(bytes), ..Budget::default() },
            Budget { day_bytes: Some(bytes), ..Budget::default() },
            Budget { bytes_per_s: Some(bytes), ..Budget::default() },
        ] {
            let limits = budget.options(crate::replica::Options::default()).limits;
            assert_eq!(limits.check(), Ok(()), "{budget:?}: {}", limits.credit_bytes);
        }
    }
}
