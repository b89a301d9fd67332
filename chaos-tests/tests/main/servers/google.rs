//! Google's store has no server for tests. What is sent to it and what is made of its answers is
//! compared with its documentation; that it works is not shown.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use model::ErrorKind;
use repository::store::{Attach, Created, Store, StoreKind};

use super::settings;

/// What a request said: its first line, the headers that matter, its body.
type Heard = Arc<Mutex<Vec<String>>>;

const HEADERS: [&str; 3] = ["x-goog-if-generation-match", "range", "content-length"];

fn hear(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("first line");
    let mut told = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("header");
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        if HEADERS.contains(&name.as_str()) && value != "0" || name.starts_with("x-goog-if") {
            told.push_str(&format!(" [{name}: {value}]"));
        }
        if name == "content-length" {
            length = value.parse().expect("length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("body");
    told
}

/// A server that gives these answers, one for each connection, and remembers what it was asked.
fn serve(answers: Vec<(&'static str, &'static str, &'static str)>) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = listener.local_addr().expect("address");
    let heard = Heard::default();
    let told = heard.clone();
    std::thread::spawn(move || {
        for (status, headers, body) in answers {
            let (mut stream, _) = listener.accept().expect("connection");
            told.lock().expect("lock").push(hear(&stream));
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
            );
            stream.write_all(head.as_bytes()).expect("head");
            stream.write_all(body.as_bytes()).expect("body");
        }
    });
    (format!("http://{address}"), heard)
}

fn attach(address: &str) -> Store {
    let (context, _) = testkit::context(141);
    let options = settings([
        ("GOOGLE_BASE_URL", address.to_owned()),
        ("GOOGLE_ALLOW_HTTP", "true".to_owned()),
        ("GOOGLE_SKIP_SIGNATURE", "true".to_owned()),
    ]);
    Store::attach("gs://bucket/pre/fix", &options, Attach::Existing, &context).expect("attach")
}

const MADE: &str = "ETag: \"1\"\r\nx-goog-generation: 1\r\n";
const READ: &str =
    "ETag: \"1\"\r\nx-goog-generation: 1\r\nLast-Modified: Sat, 28 Nov 2026 10:00:00 GMT\r\n";
const PART: &str = "ETag: \"1\"\r\nx-goog-generation: 1\r\nLast-Modified: Sat, 28 Nov 2026 10:00:00 GMT\r\n\
    Content-Range: bytes 1-3/5\r\n";
const LISTED: &str = "<?xml version='1.0' encoding='UTF-8'?>\
    <ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'><Name>bucket</Name>\
    <Prefix>pre/fix/</Prefix><IsTruncated>false</IsTruncated><Contents><Key>pre/fix/a</Key>\
    <Generation>1</Generation><MetaGeneration>1</MetaGeneration>\
    <LastModified>2026-11-28T10:00:00.000Z</LastModified><ETag>\"1\"</ETag><Size>5</Size></Contents>\
    </ListBucketResult>";
const REFUSED: &str = "<?xml version='1.0'?><Error><Code>PreconditionFailed</Code></Error>";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_google_is_what_it_documents() {
    let (address, heard) = serve(vec![
        ("200 OK", MADE, ""),
        ("412 Precondition Failed", "", REFUSED),
        ("200 OK", READ, "bytes"),
        ("412 Precondition Failed", "", REFUSED),
        ("200 OK", READ, "other"),
        ("206 Partial Content", PART, "yte"),
        ("200 OK", "", LISTED),
        ("204 No Content", "", ""),
        ("404 Not Found", "", ""),
        ("503 Service Unavailable", "", ""),
        ("404 Not Found", "", ""),
        ("403 Forbidden", "", ""),
    ]);
    let store = attach(&address);
    assert_eq!(store.kind(), StoreKind::Google);
    assert_eq!(store.kind().tried_against(), None);
    assert_eq!(store.create("a", "bytes".into()).await.expect("create"), Created::New);
    assert_eq!(store.create("a", "bytes".into()).await.expect("again"), Created::Same);
    let other = store.create("a", "bytes".into()).await.expect_err("other bytes");
    assert_eq!(other.kind(), ErrorKind::Conflict);
    assert_eq!(store.get_range("a", 1..4).await.expect("range"), "yte");
    let listed = store.list("").await.expect("list");
    assert_eq!(
        listed.iter().map(|one| (&*one.path, one.size_bytes)).collect::<Vec<_>>(),
        [("a", 5)]
    );
    store.delete("a").await.expect("delete");
    store.delete("a").await.expect("it is gone");
    let missing = store.get("a").await.expect_err("asked again, then missing");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let denied = store.get("a").await.expect_err("denied");
    assert_eq!(denied.kind(), ErrorKind::Denied);
    let create = "PUT /bucket/pre/fix/a [x-goog-if-generation-match: 0] [content-length: 5]";
    let sorted = |told: &str| {
        let mut parts: Vec<_> = told.split(" [").map(str::to_owned).collect();
        parts.sort();
        parts
    };
    let get = "GET /bucket/pre/fix/a";
    let expected = [
        create,
        create,
        get,
        create,
        get,
        "GET /bucket/pre/fix/a [range: bytes=1-3]",
        "GET /bucket?list-type=2&prefix=pre%2Ffix%2F",
        "DELETE /bucket/pre/fix/a",
        "DELETE /bucket/pre/fix/a",
        get,
        get,
        get,
    ];
    let heard = heard.lock().expect("lock");
    assert_eq!(heard.len(), expected.len(), "{heard:?}");
    for (heard, expected) in heard.iter().zip(expected) {
        assert_eq!(sorted(heard), sorted(expected));
    }
}
