//! Speaks to the running gateway's admin listener.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::cli::Globals;
use crate::cli::exit::Exit;
use crate::clock::Clock;
use crate::config::{Config, FirstRun, state_files};
use crate::mistake::Mistakes;
use crate::secret::reference::Reference;

/// An answer is waited for so long.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Whether anybody is there shows within this time.
const KNOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// No answer is longer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The running gateway, seen from its admin listener.
pub struct Admin {
    address: String,
    token: Option<String>,
}

impl Admin {
    /// The gateway that the options and the configuration mean.
    ///
    /// # Errors
    /// When neither says where its admin listener is, or the token cannot be read.
    pub fn find(globals: &Globals) -> Result<Self, Exit> {
        let config = Config::read(
            &globals.config,
            FirstRun::Assume,
            Clock::system().now(),
            &mut Mistakes::default(),
        );
        Self::of(globals, config.as_ref())
    }

    /// As [`Admin::find`], with a configuration that was read already.
    ///
    /// # Errors
    /// As there.
    pub fn of(globals: &Globals, config: Option<&Config>) -> Result<Self, Exit> {
        let address = globals
            .admin
            .clone()
            .or_else(|| config.and_then(|config| config.admin).map(|address| address.to_string()))
            .ok_or_else(|| {
                Exit::CouldNot(
                    "there is no admin listener; set [admin] bind, or name it with --admin"
                        .to_owned(),
                )
            })?;
        let token = match (&globals.token_file, config) {
            (Some(path), _) => Some(Reference::File(path.clone()).read(std::path::Path::new("."))),
            (None, Some(config)) => {
                let default = config.state_dir.join(state_files::ADMIN_TOKEN);
                let reference = config.admin_token.clone();
                match reference {
                    Some(reference) => Some(reference.read(&config.base)),
                    None => default
                        .exists()
                        .then(|| Reference::File(default).read(std::path::Path::new("."))),
                }
            }
            (None, None) => None,
        };
        let token = token.transpose().map_err(|fault| Exit::CouldNot(fault.sentence()))?;
        let token = token.map(|secret| String::from_utf8_lossy(secret.expose()).into_owned());
        Ok(Self { address, token })
    }

    /// The gateway at this address, to see whether it is there; it is shown no token.
    pub fn at(address: SocketAddr) -> Self {
        Self { address: address.to_string(), token: None }
    }

    /// Whether anybody listens there at all.
    pub fn is_there(&self) -> bool {
        let addresses = self.address.to_socket_addrs();
        addresses.is_ok_and(|mut addresses| {
            addresses.any(|address| {
                std::net::TcpStream::connect_timeout(&address, KNOCK_TIMEOUT).is_ok()
            })
        })
    }

    /// Calls the admin API and gives the JSON of its answer.
    ///
    /// # Errors
    /// `Unreachable` when nobody answers, `CouldNot` with the gateway's own words when it says no.
    pub fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Exit> {
        let (status, bytes) = self.raw(method, path, body)?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(answer);
        }
        let says = answer.pointer("/error/message").and_then(Value::as_str);
        Err(Exit::CouldNot(
            says.map_or_else(|| format!("the gateway answered {status}"), str::to_owned),
        ))
    }

    /// Calls the admin listener and gives status and body.
    ///
    /// # Errors
    /// `Unreachable` when nobody answers.
    pub fn raw(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), Exit> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Exit::CouldNot(format!("no runtime: {error}")))?;
        runtime.block_on(async {
            match tokio::time::timeout(TIMEOUT, self.exchange(method, path, body)).await {
                Ok(answer) => answer,
                Err(_) => Err(Exit::Unreachable(format!(
                    "the gateway at {} did not answer in time",
                    self.address
                ))),
            }
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), Exit> {
        let unreachable = |what: &dyn std::fmt::Display| {
            Exit::Unreachable(format!("no gateway can be reached at {}: {what}", self.address))
        };
        let stream =
            TcpStream::connect(&self.address).await.map_err(|error| unreachable(&error))?;
        // The administration answers to IP addresses and localhost only, by whatever name it was found.
        let host = stream.peer_addr().map_err(|error| unreachable(&error))?.to_string();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", host);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Exit::CouldNot(format!("the request cannot be made: {error}")))?;
        let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| unreachable(&error))?
            .to_bytes();
        driver.abort();
        Ok((status, body))
    }
}
