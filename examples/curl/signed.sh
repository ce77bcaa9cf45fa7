#!/usr/bin/env bash
# Lists tasks and makes one with signed requests. Needs BASE_URL, CA_FILE, KEY_ID and SECRET, and portcullis.
set -euo pipefail

# Signs a request, and runs the line for curl that this prints.
call() {
  local line
  line=$(portcullis sign "$@" --key-id "$KEY_ID" --secret env:SECRET --curl)
  eval "${line/#curl/curl --silent --show-error --fail-with-body --cacert \"\$CA_FILE\"}"
}

call GET "$BASE_URL/v1/tasks?limit=5" >/dev/null
echo "listed"
call POST "$BASE_URL/v1/tasks" --body '{"title":"From a signed curl"}'
