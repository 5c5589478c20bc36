//! Requests as Go's server would read them. What is answered is what Prometheus answers to the same.

use axum::body::Body;
use axum::http::{Method, Request, header};
use model::{Appender, Batch, Labels};

use super::{Fixture, NOW, SERIES};

/// An error of `bad_data`.
fn bad_data(message: &str) -> (u16, String) {
    let message = serde_json::to_string(message).unwrap();
    (400, format!(r#"{{"status":"error","errorType":"bad_data","error":{message}}}"#))
}

const NO_EXPRESSION: &str =
    r#"invalid parameter "query": unknown position: parse error: no expression found in input"#;

async fn send(
    server: &Fixture,
    method: Method,
    path: &str,
    kind: &str,
    body: &str,
) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind);
    let (status, _, body) =
        server.send(request.body(Body::from(String::from(body))).unwrap()).await;
    (status, body)
}

#[tokio::test]
async fn forms_of_either_kind() {
    let server = Fixture::new();
    let seven = (
        200,
        String::from(r#"{"status":"success","data":{"resultType":"scalar","result":[4,"7"]}}"#),
    );
    let parts = |pairs: &[(&str, &str)]| {
        let parts = pairs.iter().map(|(name, value)| {
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        });
        parts.collect::<String>() + "--x--\r\n"
    };
    let multipart = "Multipart/Form-Data; boundary=x";
    let query = parts(&[("query", "7"), ("time", "4")]);
    let path = "/api/v1/query";
    assert_eq!(send(&server, Method::POST, path, multipart, &query).await, seven);
    assert_eq!(send(&server, Method::GET, path, multipart, &query).await, seven);
    // Of a form in parts the URL comes first, of another it comes last.
    let query = parts(&[("query", "8"), ("time", "4")]);
    let path = "/api/v1/query?query=7";
    assert_eq!(send(&server, Method::POST, path, multipart, &query).await, seven);
    let form = "APPLICATION/X-WWW-FORM-URLENCODED ; charset=utf-8";
    let path = "/api/v1/query?query=8";
    assert_eq!(send(&server, Method::POST, path, form, "query=7&time=4").await, seven);
    let other = "application/x-www-form-urlencoded2";
    let sent = send(&server, Method::POST, "/api/v1/query", other, "query=7&time=4").await;
    assert_eq!(sent, bad_data(NO_EXPRESSION));

    let labels = (200, String::from(r#"{"status":"success","data":["__name__","a"]}"#));
    let matches = parts(&[("match[]", "m")]);
    assert_eq!(send(&server, Method::POST, "/api/v1/labels", multipart, &matches).await, labels);
    // This one does not look at parts.
    let series = send(&server, Method::POST, "/api/v1/series", multipart, &matches).await;
    assert_eq!(series, bad_data("no match[] parameter provided"));
}

#[tokio::test]
async fn malformed_pairs() {
    let server = Fixture::new();
    for query in ["query=vector(1)%zz", "query=vector(1);a=b"] {
        assert_eq!(server.get(&format!("/api/v1/query?{query}")).await, bad_data(NO_EXPRESSION));
        assert_eq!(server.post("/api/v1/query", query).await, bad_data(NO_EXPRESSION));
    }
    server.check("/api/v1/labels?match[]=m&x=%zz", r#"["__name__","a"]"#).await;
    for (query, message) in [
        ("match[]=m&x=%zz", r#"error parsing form values: invalid URL escape "%zz""#),
        ("match[]=m&x;y", "error parsing form values: invalid semicolon separator in query"),
    ] {
        assert_eq!(server.get(&format!("/api/v1/series?{query}")).await, bad_data(message));
        assert_eq!(server.post("/api/v1/series", query).await, bad_data(message));
    }
}

#[tokio::test]
async fn selectors_of_nothing() {
    let server = Fixture::new();
    let [empty, blank] = ["unknown position", "1:2"]
        .map(|place| format!("{place}: parse error: unexpected end of input"));
    for (path, prefix) in
        [("labels", ""), ("label/a/values", ""), ("series", r#"invalid parameter "match[]": "#)]
    {
        for (text, message) in [("", &empty), ("%20", &blank)] {
            let answer = server.get(&format!("/api/v1/{path}?match[]={text}")).await;
            assert_eq!(answer, bad_data(&format!("{prefix}{message}")), "{path}");
        }
    }
}

#[tokio::test]
async fn names_and_methods_that_are_none() {
    let server = Fixture::new();
    for path in ["/api/v1/query?query=1", "/api/v1/series?match[]=m", "/api/v1/label/a/values"] {
        let request = Request::head(path).body(Body::empty()).unwrap();
        let (status, headers, _) = server.send(request).await;
        assert_eq!(status, 405, "{path}");
        let allowed = headers[header::ALLOW].to_str().unwrap();
        assert!(allowed.contains("GET") && !allowed.contains("HEAD"), "{path}: {allowed}");
    }
    let request = Request::head("/api/v1/nothing").body(Body::empty()).unwrap();
    assert_eq!(server.send(request).await.0, 404);
    server.check("/api/v1/series?match[]=m", SERIES).await;

    for (name, message) in [
        ("%ff", r#"invalid label name: "\xff""#),
        ("a%22%ff", r#"invalid label name: "a\"\xff""#),
        ("U__", r#"invalid label name: """#),
    ] {
        let answer = server.get(&format!("/api/v1/label/{name}/values")).await;
        assert_eq!(answer, bad_data(message), "{name}");
    }
    assert_eq!(server.get("/api/v1/label/a%2Fb/values").await.0, 404);
    server.check("/api/v1/label/a+b/values", "[]").await;
    server.check("/api/v1/label/%61/values", r#"["1","2"]"#).await;
}

/// A head has them in the order in which they were created; what several selectors select is merged, and so sorted.
#[tokio::test]
async fn the_order_of_series() {
    let server = Fixture::new();
    let mut batch = Batch::new();
    for z in ["0", "2", "1"] {
        batch.push_new(Labels::from_pairs([("__name__", "o"), ("z", z)]).unwrap(), NOW, 1.0);
    }
    assert!(server.server.running.get().unwrap().store.append(&batch).unwrap().rejected.is_empty());
    let list = |zs: &[&str]| {
        let series = zs.iter().map(|z| format!(r#"{{"__name__":"o","z":"{z}"}}"#));
        format!("[{}]", series.collect::<Vec<_>>().join(","))
    };
    server.check("/api/v1/series?match[]=o", &list(&["0", "2", "1"])).await;
    server.check("/api/v1/series?match[]=o&match[]=o", &list(&["0", "1", "2"])).await;
    let limited = server.get("/api/v1/series?match[]=o&limit=2").await.1;
    assert!(limited.contains(&list(&["0", "2"])), "{limited}");
    assert!(limited.contains("results truncated due to limit"), "{limited}");
}
