#!/usr/bin/env python3
"""Lists tasks and makes one with signed requests (RFC 9421). Needs BASE_URL, CA_FILE, KEY_ID and SECRET."""
import base64
import hashlib
import hmac
import json
import os
import secrets
import ssl
import time
import urllib.request
from urllib.parse import urlsplit

BASE_URL, KEY_ID = os.environ["BASE_URL"], os.environ["KEY_ID"]
SECRET = base64.b64decode(os.environ["SECRET"])
TLS = ssl.create_default_context(cafile=os.environ["CA_FILE"])


def signature(method, url, headers):
    """The two headers that sign a request with these headers."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port not in (None, 443) else ""
    covered = [
        ("@method", method),
        ("@authority", parts.hostname + port),
        ("@path", parts.path or "/"),
        ("@query", "?" + parts.query),
    ]
    covered += [(name.lower(), value) for name, value in headers.items()]
    names = " ".join(f'"{name}"' for name, _ in covered)
    terms = f'({names});created={int(time.time())};nonce="{secrets.token_hex(16)}";keyid="{KEY_ID}";alg="hmac-sha256"'
    lines = [f'"{name}": {value}' for name, value in covered] + [f'"@signature-params": {terms}']
    mac = hmac.digest(SECRET, "\n".join(lines).encode(), "sha256")
    return {"Signature-Input": f"sig1={terms}", "Signature": f"sig1=:{base64.b64encode(mac).decode()}:"}


def call(method, path, body=None):
    """Calls the API; an answer that is no success raises urllib.error.HTTPError."""
    headers, data = {}, None
    if body is not None:
        data = json.dumps(body).encode()
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        headers = {"Content-Type": "application/json", "Content-Digest": f"sha-256=:{digest}:"}
    headers |= signature(method, BASE_URL + path, headers)
    request = urllib.request.Request(BASE_URL + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, context=TLS) as response:
        return json.load(response)


page = call("GET", "/v1/tasks?limit=5")
print("listed", len(page["data"]), "of", page["pagination"]["total"])
print(json.dumps(call("POST", "/v1/tasks", {"title": "From a signed Python"})))
