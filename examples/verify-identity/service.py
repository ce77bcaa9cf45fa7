"""A service behind Portcullis that believes nobody but the gateway, in Python.

The gateway tells who calls in the header X-Portcullis-Identity, in one of two forms:

    identity = "file:identity.secret"     a MAC:  IDENTITY_SECRET_FILE=identity.secret python service.py 9000
    identity = { jwt = {} }               a JWT:  JWKS_URL=http://127.0.0.1:9901/.well-known/jwks.json \\
                                                  AUDIENCE=task-service python service.py 9000

With identity = { jwt = { bind = "request" } } set IDENTITY_BIND=request, too.
The MAC needs the standard library alone, the JWT also `pip install "pyjwt[crypto]"`.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Refused(Exception):
    """Nobody has proved who calls."""


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verify_mac(value, secret, method, path, query):
    """Who calls, when the header of version 2 proves it for this request."""
    version, text, mac = (value.split(".") + ["", "", ""])[:3]
    if version != "v2" or value.count(".") != 2:
        raise Refused("no identity of version 2")
    expected = hmac.new(secret, b"portcullis-identity-v2." + text.encode(), hashlib.sha256).digest()
    # Nothing of the JSON is read before this has been found right.
    if not hmac.compare_digest(expected, unpadded(mac)):
        raise Refused("not signed by the gateway")
    facts = json.loads(unpadded(text))
    if abs(time.time() - facts["iat"]) > 60:
        raise Refused("too old, or from the future")
    if (facts["method"], facts["path"], facts["query"]) != (method, path, query):
        raise Refused("signed for another request")
    return facts


def verify_token(value, keys, audience, issuer, bound, method, path, query):
    """Who calls, when the JWT proves it. `keys` is a jwt.PyJWKClient, which keeps the keys."""
    import jwt

    if jwt.get_unverified_header(value).get("typ") != "portcullis-identity+jwt":
        raise Refused("a token of another kind")
    key = keys.get_signing_key_from_jwt(value)
    claims = jwt.decode(
        value, key, algorithms=[key.algorithm_name], audience=audience, issuer=issuer, leeway=5,
        options={"require": ["exp", "iat", "aud", "iss"]},
    )
    here = {"method": method, "path": path, "query": query}
    if bound and any(claims.get(name) != value for name, value in here.items()):
        raise Refused("signed for another request")
    return {"sub": claims.get("sub"), "roles": claims["roles"], "scopes": claims["scope"].split()}


def verifier():
    """What verifies, as the environment says; without a word from it nobody is believed."""
    if "IDENTITY_SECRET_FILE" in os.environ:
        with open(os.environ["IDENTITY_SECRET_FILE"], "rb") as file:
            secret = file.read().rstrip(b"\r\n")
        return lambda value, *here: verify_mac(value, secret, *here)
    import jwt

    keys = jwt.PyJWKClient(os.environ["JWKS_URL"])
    audience, issuer = os.environ["AUDIENCE"], os.environ.get("ISSUER", "portcullis")
    bound = os.environ.get("IDENTITY_BIND") == "request"
    return lambda value, *here: verify_token(value, keys, audience, issuer, bound, *here)


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    verify = None

    def answer(self):
        path, _, query = self.path.partition("?")
        values = self.headers.get_all("X-Portcullis-Identity") or []
        try:
            if len(values) != 1:
                raise Refused("exactly one identity is needed")
            caller = Service.verify(values[0], self.command, path, query)
            status, body = 200, {"sub": caller["sub"], "roles": caller["roles"]}
        except Exception as fault:  # Whatever is wrong with an identity, it proves nothing.
            self.log_message("refused: %s", fault)
            status, body = 401, {"error": "unauthorized"}
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer


if __name__ == "__main__":
    Service.verify = staticmethod(verifier())
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service).serve_forever()
