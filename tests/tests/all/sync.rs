//! The main job: events reach the hub, once, unaltered, and a cut costs nothing that was
//! acknowledged.

use ropeway_core::policy::Policy;
use ropeway_tests::Deployment;

fn events(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("{{\"n\":{i},\"note\":\"event number {i} of the clinic\"}}").into_bytes()).collect()
}

#[test]
fn everything_pushed_is_at_the_hub_once_and_in_order() {
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", events(5000));
    let hub = d.serve(Policy::Own);
    let report = d.open("clinic_a").sync(&hub.address.to_string(), &Default::default(), |_| ()).unwrap();
    assert_eq!((report.sent, report.acknowledged, report.received), (5000, 5000, 0));
    assert_eq!(d.payloads("hub", "clinic_a"), events(5000));
    let again = d.open("clinic_a").sync(&hub.address.to_string(), &Default::default(), |_| ()).unwrap();
    assert_eq!((again.sent, again.resumed_at), (0, 5000));
    eprintln!("{report:?}\n{again:?}");
}
