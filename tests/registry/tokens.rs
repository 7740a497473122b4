//! Token services: who is told the password, who the token, and for what.
use crate::common::{self, Scratch};
use crate::images::Made;
use crate::standin::{Content, Reply, Seen, StandIn};
use crate::{auths, docker_config, wharf};
use serde_json::json;

/// A registry that wants a token of the service at `realm`, and answers with `content` when it sees one.
fn registry(content: Content, realm: impl Fn(&Seen) -> String + Send + Sync + 'static) -> StandIn {
    StandIn::start(move |seen| match seen.header("authorization") {
        Some("Bearer T0KEN") => content.answer(seen),
        _ => {
            let challenge = format!(
                "Bearer realm=\"{}\",service=\"the registry\",scope=\"repository:team/a:pull\"",
                realm(seen)
            );
            Reply::new(401, "").header("WWW-Authenticate", challenge)
        }
    })
}

fn token() -> Reply {
    Reply::new(200, json!({"token": "T0KEN", "expires_in": 300}).to_string())
}

#[test]
fn a_token_is_asked_for_with_service_and_scope_and_shown_to_the_registry() {
    common::require_root!();
    let scratch = Scratch::new("token");
    let service = StandIn::start(|_| token());
    let realm = format!("http://{}/token?x=y", service.host());
    let server = registry(Content::of(&Made::new(4, &[5000, 5000])), move |_| realm.clone());
    docker_config(&scratch, &auths(&server.host(), "ann", "pw"));
    wharf(&scratch, ["pull", &format!("{}/team/a:1", server.host())]).ok();
    let asked = service.seen();
    assert_eq!(asked.len(), 1, "one token serves all blobs: {asked:?}");
    assert_eq!(asked[0].header("authorization"), Some("Basic YW5uOnB3"));
    for part in ["/token?x=y&", "service=the%20registry", "scope=repository%3Ateam%2Fa%3Apull", "account=ann"]
    {
        assert!(asked[0].target.contains(part), "{}", asked[0].target);
    }
    assert!(server.seen().iter().all(|seen| seen.header("authorization") != Some("Basic YW5uOnB3")));
}

#[test]
fn nobody_in_particular_gets_a_token_without_a_password() {
    common::require_root!();
    let scratch = Scratch::new("anon");
    let service = StandIn::start(|_| Reply::new(200, r#"{"access_token": "T0KEN"}"#));
    let realm = format!("http://{}/token", service.host());
    let server = registry(Content::of(&Made::new(5, &[5000])), move |_| realm.clone());
    docker_config(&scratch, &auths("127.0.0.1", "ann", "pw"));
    wharf(&scratch, ["pull", &format!("{}/team/a:1", server.host())]).ok();
    assert!(service.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn a_token_service_that_is_busy_is_asked_again_when_it_says() {
    common::require_root!();
    let scratch = Scratch::new("busy");
    let service = StandIn::start(|seen| match seen.before {
        0 => Reply::new(429, "").header("Retry-After", "2"),
        _ => token(),
    });
    let realm = format!("http://{}/token", service.host());
    let server = registry(Content::of(&Made::new(9, &[5000])), move |_| realm.clone());
    let pulled = wharf(&scratch, ["pull", &format!("{}/team/a:1", server.host())]).ok();
    assert!(pulled.took >= std::time::Duration::from_secs(2), "{pulled}");
    assert_eq!(service.seen().len(), 2);
}

#[test]
fn an_identity_token_is_exchanged() {
    common::require_root!();
    let scratch = Scratch::new("identity");
    let service = StandIn::start(|seen| match String::from_utf8_lossy(&seen.body).as_ref() {
        body if seen.method == "POST" && body.contains("refresh_token=R%2FT") => token(),
        _ => Reply::new(401, ""),
    });
    let realm = format!("http://{}/token", service.host());
    let server = registry(Content::of(&Made::new(6, &[5000])), move |_| realm.clone());
    docker_config(&scratch, &json!({"auths": {server.host(): {"auth": "YTpi", "identitytoken": "R/T"}}}));
    wharf(&scratch, ["pull", &format!("{}/team/a:1", server.host())]).ok();
    let body = String::from_utf8(service.seen()[0].body.clone()).expect("UTF-8");
    assert!(body.contains("grant_type=refresh_token") && body.contains("service=the%20registry"), "{body}");
}

#[test]
fn a_token_that_has_ended_is_asked_for_again() {
    common::require_root!();
    let scratch = Scratch::new("ended");
    let service = StandIn::start(|_| token());
    let realm = format!("http://{}/token", service.host());
    let content = Content::of(&Made::new(7, &[5000, 5000]));
    let server = StandIn::start(move |seen| match seen.header("authorization") {
        // The first request for each blob comes with a token that the registry no longer takes.
        Some(_) if !seen.target.contains("/blobs/") || seen.before % 2 == 1 => content.answer(seen),
        _ => Reply::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"{realm}\"")),
    });
    wharf(&scratch, ["pull", &format!("{}/team/a:1", server.host())]).ok();
    assert_eq!(service.seen().len(), 4);
}

#[test]
fn a_refusal_says_how_to_log_in() {
    common::require_root!();
    let scratch = Scratch::new("refusal");
    let service = StandIn::start(|_| Reply::new(401, r#"{"details": "incorrect\u001b[31m password"}"#));
    let realm = format!("http://{}/token", service.host());
    let server = registry(Content::default(), move |_| realm.clone());
    let name = format!("{}/team/a:1", server.host());
    let hint = format!("wharf login {}", server.host());
    wharf(&scratch, ["pull", &name]).fails_with(&[&service.host(), "401", "incorrect [31m password", &hint]);
    // The same in a circle: a token that is never taken.
    let service = StandIn::start(|_| Reply::new(200, r#"{"token": "OTHER"}"#));
    let realm = format!("http://{}/token", service.host());
    let server = registry(Content::default(), move |_| realm.clone());
    wharf(&scratch, ["pull", &format!("{}/team/a:1", server.host())]).fails_with(&["401", "wharf login"]);
    assert_eq!(service.seen().len(), 1);
    for answer in ["", "[]", "{}", r#"{"token": "a\r\nX-Evil: b"}"#] {
        let service = StandIn::start(move |_| Reply::new(200, answer));
        let realm = format!("http://{}/token", service.host());
        let server = registry(Content::default(), move |_| realm.clone());
        wharf(&scratch, ["pull", &format!("{}/team/a:1", server.host())]).fails_with(&["token"]);
    }
}

#[test]
fn a_password_is_not_sent_to_a_plain_token_service_on_another_host() {
    common::require_root!();
    let scratch = Scratch::new("realm");
    let evil = StandIn::start_at("127.0.0.2", |_| token());
    let realm = format!("http://{}/token", evil.host());
    let server = registry(Content::of(&Made::new(8, &[5000])), move |_| realm.clone());
    docker_config(&scratch, &auths(&server.host(), "ann", "pw"));
    let name = format!("{}/team/a:1", server.host());
    wharf(&scratch, ["pull", &name]).fails_with(&["127.0.0.2", "on another host", "refused"]);
    assert_eq!(evil.seen().len(), 0);
    // Without anything to lose it is asked.
    docker_config(&scratch, &json!({}));
    wharf(&scratch, ["pull", &name]).ok();
    assert!(evil.seen().iter().all(|seen| seen.header("authorization").is_none()));
}
