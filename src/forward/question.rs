//! Asks a target for one path, on the gateway's own behalf: nothing of a caller and no credential.

use http::{Method, Request, StatusCode};

use crate::fields::Fields;
use crate::forward::connection::{Connection, Speech};
use crate::forward::headers::Outgoing;
use crate::forward::http1;
use crate::forward::outbound::Outbound;
use crate::forward::patience::Patience;
use crate::forward::upstream::Target;

/// The status of what the target answers to a GET of this path; nothing when no answer comes.
pub(in crate::forward) async fn ask(
    connection: &mut Connection,
    target: &Target,
    path: &http::uri::PathAndQuery,
    patience: Patience,
) -> Option<StatusCode> {
    let address = target.address();
    match connection.speech() {
        Speech::Http1 { link, .. } => {
            let none = Fields::new();
            let request = http1::send::Request {
                method: &Method::GET,
                path: path.path(),
                query: path.query(),
                host: address.authority().as_str(),
                headers: Outgoing::of_our_own(&none),
            };
            let answered = link.ask(request, &mut Outbound::empty(), patience).await;
            answered.ok().map(|answered| answered.head.status)
        }
        Speech::Http2(link) => {
            let uri = address.uri(address.authority().clone(), path.clone())?;
            let mut request = Request::new(Outbound::empty());
            *request.uri_mut() = uri;
            *request.version_mut() = http::Version::HTTP_2;
            let answered = link.ask(request, patience).await;
            answered.ok().map(|answer| answer.status())
        }
    }
}
