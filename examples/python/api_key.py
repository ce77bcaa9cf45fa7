#!/usr/bin/env python3
"""Lists tasks and makes one with an API key. Needs BASE_URL, CA_FILE and API_KEY."""
import json
import os
import ssl
import urllib.request

BASE_URL, API_KEY = os.environ["BASE_URL"], os.environ["API_KEY"]
TLS = ssl.create_default_context(cafile=os.environ["CA_FILE"])


def call(method, path, body=None):
    """Calls the API; an answer that is no success raises urllib.error.HTTPError."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(body).encode()
    request = urllib.request.Request(BASE_URL + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, context=TLS) as response:
        return json.load(response)


page = call("GET", "/v1/tasks?limit=5")
print("listed", len(page["data"]), "of", page["pagination"]["total"])
print(json.dumps(call("POST", "/v1/tasks", {"title": "From Python"})))
