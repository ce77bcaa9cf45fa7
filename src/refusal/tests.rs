//! Protects that refusals tell callers what they may know, and no more.

use super::*;

#[test]
fn names_are_unique_and_statuses_are_errors() {
    let names: std::collections::HashSet<_> =
        Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert!(reason.status().as_u16() >= 400, "{}", reason.name());
        assert_ne!(
            reason.status().as_u16() == 500,
            reason.code() != "server_error",
            "{}",
            reason.name()
        );
    }
}

#[test]
fn every_failure_of_identification_tells_the_same() {
    let told: std::collections::HashSet<_> = Reason::ALL
        .iter()
        .filter(|reason| reason.status() == StatusCode::UNAUTHORIZED)
        .map(|reason| (reason.code(), reason.message()))
        .collect();
    assert_eq!(
        told.into_iter().collect::<Vec<_>>(),
        [("unauthorized", "Invalid or missing API key")]
    );
}
