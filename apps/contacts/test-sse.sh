#!/usr/bin/env bash
# Tries a server of contacts over HTTP+SSE, as Claude.ai uses it, and over plain JSON-RPC.
#
#   apps/contacts/test-sse.sh [URL]      URL is http://127.0.0.1:8787 unless said
#   TOKEN=… apps/contacts/test-sse.sh    with a bearer token
set -euo pipefail

url=${1:-http://127.0.0.1:8787}
with=(--silent --show-error --max-time 20)
if [ -n "${TOKEN:-}" ]; then with+=(--header "Authorization: Bearer $TOKEN"); fi
events=$(mktemp)
stream=
end() {
    if [ -n "$stream" ]; then kill "$stream" 2>/dev/null || true; fi
    rm -f "$events"
}
trap end EXIT

fail() {
    echo "FAILED: $1" >&2
    exit 1
}

# Waits until the stream has said something.
heard() {
    for _ in $(seq 100); do
        if grep --quiet --extended-regexp "$1" "$events"; then return 0; fi
        sleep 0.1
    done
    fail "nothing like /$1/ came: $(head -c 2000 "$events")"
}

say() {
    local status
    status=$(curl "${with[@]}" --output /dev/null --write-out '%{http_code}' \
        --header 'Content-Type: application/json' --data "$1" "$url$endpoint")
    [ "$status" = 202 ] || fail "HTTP $status for $1"
}

curl "${with[@]}" "$url/health" | grep --quiet '"sse":"/mcp/oauth"' || fail "/health does not name /mcp/oauth"
echo "ok health"

curl "${with[@]}" --no-buffer --header 'Accept: text/event-stream' "$url/mcp/oauth" >"$events" &
stream=$!
heard '^data: /mcp/oauth\?sessionId='
[ "$(head -n 1 "$events")" = ': SSE connection established' ] || fail "the stream begins with $(head -n 1 "$events")"
grep --quiet '^data: {"sessionId":"[0-9a-f-]\{36\}"}' "$events" || fail "no session came"
endpoint=$(sed -n 's/^data: \(\/mcp\/oauth?.*\)$/\1/p' "$events" | head -n 1)
echo "ok stream"

say '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"test-sse","version":"1"}}}'
heard '"protocolVersion":"2024-11-05"'
say '{"jsonrpc":"2.0","method":"notifications/initialized"}'
echo "ok handshake"

say '{"jsonrpc":"2.0","id":2,"method":"tools/list"}'
for tool in search_contacts add_contact get_contact mark_contacted; do heard "\"name\":\"$tool\""; done
say '{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"search_contacts","arguments":{"query":"*"}}}'
heard '"id":3,"result"'
echo "ok tools"

curl "${with[@]}" --header 'Content-Type: application/json' --data '{"jsonrpc":"2.0","id":4,"method":"tools/list"}' "$url/mcp" |
    grep --quiet '"search_contacts"' || fail "/mcp does not answer plain JSON-RPC"
echo "ok json-rpc"
