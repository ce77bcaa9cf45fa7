#!/usr/bin/env bash
# Lists tasks and makes one with an API key. Needs BASE_URL, CA_FILE and API_KEY.
set -euo pipefail
call() { curl --silent --show-error --fail-with-body --cacert "$CA_FILE" -H "Authorization: Bearer $API_KEY" "$@"; }

call "$BASE_URL/v1/tasks?limit=5" >/dev/null
echo "listed"
call -H 'Content-Type: application/json' -d '{"title":"From curl"}' "$BASE_URL/v1/tasks"
