//! What holds cover, that forgetting is refused there, and that they end.

use std::time::Duration;

use super::*;
use crate::point::PointDraft;
use crate::session::testing::Fixture;
use crate::types::{Number, hex};

fn session(stream: &str) -> SessionId {
    let number = Number::new(7).expect("number");
    SessionId { stream: stream.parse().expect("stream"), number, random: [3; 8] }
}

fn point(site: &str) -> PointId {
    let number = Number::new(9).expect("number");
    PointId { site: site.parse().expect("site"), chain: [1; 16], number }
}

fn request(scope: HoldScope) -> HoldRequest {
    let (who, why) = ("counsel".to_owned(), "case 17".to_owned());
    HoldRequest { scope, snapshots: Vec::new(), who, why, until: None }
}

fn hold(scope: HoldScope, snapshots: &[SessionId]) -> Hold {
    let request = HoldRequest { snapshots: snapshots.to_vec(), ..request(scope) };
    let (id, writer, at) = (HoldId([1; 16]), WriterId([2; 16]), Timestamp::default());
    Hold { id, request, writer, at, release: None }
}

#[test]
fn each_scope_covers_what_it_says() {
    let (a, b) = ("prod.a", "prod.b");
    let stream = |name: &str| name.parse::<StreamName>().expect("stream");
    // Notation: covered points of prod and test; snapshots of prod.a, prod.b, test.a; logs likewise.
    for (hold, expected) in [
        (hold(HoldScope::Site("prod".parse().expect("site")), &[]), "yn yyn yyn"),
        (hold(HoldScope::System(stream(a)), &[]), "nn ynn ynn"),
        (hold(HoldScope::Point(point("prod")), &[session(b)]), "yn nyn nnn"),
        (hold(HoldScope::Snapshot(session(a)), &[]), "nn ynn nnn"),
    ] {
        let holds = Holds::in_force(vec![hold], Timestamp::default());
        let say = |is: bool| if is { 'y' } else { 'n' };
        let points = ["prod", "test"].map(|site| say(holds.on_point(&point(site)).is_some()));
        let streams = [a, b, "test.a"];
        let snapshots = streams.map(|name| say(holds.on_snapshot(&session(name)).is_some()));
        let logs = streams.map(|name| say(holds.on_log(&stream(name)).is_some()));
        let shown = [&points[..], &[' '], &snapshots, &[' '], &logs].concat();
        assert_eq!(shown.into_iter().collect::<String>(), expected, "{holds:?}");
    }
}

#[test]
fn golden_bytes() {
    let at = Timestamp::from_unix_seconds(1_764_000_000);
    let records = [
        request(HoldScope::Site("prod".parse().expect("site"))),
        HoldRequest { until: Some(at), ..request(HoldScope::Snapshot(session("prod.a"))) },
    ]
    .map(|request| Record::new(&request, at));
    assert_eq!(
        records.clone().map(|record| hex(&record.encode_to_vec())),
        [
            "0801120470726f642207636f756e73656c2a0763617365203137388080d0fceca9fefa30",
            "0804122b70726f642e612f34313839333734622f666666666666666666382d303330333033303330333033303330332207636f756e73656c2a0763617365203137308080d0fceca9fefa30388080d0fceca9fefa30"
        ]
    );
    let release =
        ReleaseRecord { who: "a".to_owned(), why: "b".to_owned(), at_unix_ns: at.unix_ns };
    assert_eq!(hex(&release.encode_to_vec()), "0a0161120162188080d0fceca9fefa30");
    for record in records {
        let (request, at) = record.clone().read().expect("read");
        assert_eq!(Record::new(&request, at), record);
    }
}

#[test]
fn records_that_make_no_sense_are_refused() {
    let good =
        Record::new(&request(HoldScope::Site("prod".parse().expect("site"))), Timestamp::default());
    for bad in [
        Record { scope: 0, ..good.clone() },
        Record { scope: 5, ..good.clone() },
        Record { scope: 2, ..good.clone() },
        Record { name: "Prod".to_owned(), ..good.clone() },
        Record { who: " ".to_owned(), ..good.clone() },
        Record { why: "a\nb".to_owned(), ..good.clone() },
        Record { why: "x".repeat(HOLD_TEXT_BYTES_MAX + 1), ..good.clone() },
        Record { snapshots: vec![session("prod.a").path()], ..good.clone() },
        Record {
            scope: 3,
            name: point("prod").path(),
            snapshots: vec!["no path".to_owned()],
            ..good.clone()
        },
    ] {
        assert!(bad.clone().read().is_none(), "{bad:?}");
    }
}

#[tokio::test]
async fn what_is_held_is_not_forgotten_until_the_hold_ends() {
    let Fixture { repository, context, handles, .. } = Fixture::new(1).await;
    let site: SiteName = "prod".parse().expect("site");
    let sealed = repository.seal_point(&site, PointDraft::default(), &context).await.expect("seal");
    let denied = |outcome: Result<()>| {
        let error = outcome.expect_err("held");
        assert_eq!((error.kind(), error.action()), (ErrorKind::Denied, HELD_ACTION));
        assert!(error.chain().contains("counsel holds it: case 17"), "{}", error.chain());
    };

    let held = request(HoldScope::Point(sealed.id.clone()));
    let held = repository.add_hold(held, &context).await.expect("add");
    denied(repository.forget_point(&sealed.id, &context).await);
    let release = repository.release_hold(held.id, "counsel", "closed", &context).await;
    let released = release.expect("release").release.expect("released");
    assert_eq!(released.why, "closed");
    // The first word stays.
    let again = repository.release_hold(held.id, "x", "other", &context).await.expect("again");
    assert_eq!(again.release, Some(released));

    let until = context.clock.now().saturating_add(Duration::from_secs(60));
    let site_hold = HoldRequest { until: Some(until), ..request(HoldScope::Site(site.clone())) };
    repository.add_hold(site_hold, &context).await.expect("add");
    denied(repository.forget_point(&sealed.id, &context).await);
    denied(
        crate::log::trim_log(&repository, &"prod.a".parse().expect("stream"), 1, &context).await,
    );
    handles.clock.advance(Duration::from_secs(61));
    repository.forget_point(&sealed.id, &context).await.expect("the hold is over");

    let late = request(HoldScope::Point(sealed.id.clone()));
    let error = repository.add_hold(late.clone(), &context).await.expect_err("forgotten");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(repository.all_holds().await.expect("all").len(), 2);
    // One that came at the same moment as the forget frees nothing: the collector asks as well.
    let path = hold_path(HoldId([7; 16]));
    let record = Record::new(&late, context.clock.now());
    let body = record.encode_to_vec();
    repository.create_signed(ObjectType::Hold, &path, body).await.expect("create");
    let holds = repository.holds(context.clock.now()).await.expect("holds");
    denied(repository.delete_point_body(&sealed.id, &holds).await);
    let unknown = repository.release_hold(HoldId([9; 16]), "a", "b", &context).await;
    assert_eq!(unknown.expect_err("unknown").kind(), ErrorKind::NotFound);
}
