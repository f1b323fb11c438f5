#!/bin/sh
# Fetches a skill to be edited, by a one-time token: sh edit.sh sk_edit_TOKEN
#
# It goes to a directory of the skill's name below the one you are in, or where SKILLPORT_EDIT_DIR says.
set -eu

BASE='@BASE@'
TOKEN="${1:-}"
PLACE="${SKILLPORT_EDIT_DIR:-.}"

fail() {
    echo "edit.sh: $1" >&2
    exit "${2:-1}"
}

case "$TOKEN" in
    *[!A-Za-z0-9_-]*) fail "this is no token" 2 ;;
    sk_edit_?*) ;;
    *) fail "usage: edit.sh sk_edit_TOKEN" 2 ;;
esac
command -v curl >/dev/null 2>&1 || fail "curl is needed"
command -v tar >/dev/null 2>&1 || fail "tar is needed"

mkdir -p "$PLACE"
WORK="$(mktemp -d "$PLACE/.skillport-XXXXXX")"
trap 'rm -rf "$WORK"' EXIT
trap 'exit 1' HUP INT TERM

attempt=1
while :; do
    status="$(curl -sS --max-time 120 -o "$WORK/answer" -w '%{http_code}' -H 'Accept: application/x-tar' "$BASE/api/edit/$TOKEN")" || status=000
    case "$status" in
        200) break ;;
        5?? | 000) [ "$attempt" -lt 3 ] || fail "the server does not answer ($status); try again later" ;;
        410) fail "the token was used or has expired; ask for another" ;;
        *) fail "the server refused ($status): $(cat "$WORK/answer" 2>/dev/null)" ;;
    esac
    sleep "$attempt"
    attempt=$((attempt + 1))
done

mkdir "$WORK/new"
tar -xf "$WORK/answer" -C "$WORK/new" || fail "the skill cannot be unpacked"
NAME="$(ls "$WORK/new")"
[ -f "$WORK/new/$NAME/SKILL.md" ] || fail "there is no skill in what came"
# What somebody has edited is not overwritten.
[ ! -e "$PLACE/$NAME" ] || fail "$PLACE/$NAME is there already; move it away, and ask for another token"
mv "$WORK/new/$NAME" "$PLACE/$NAME"
echo "Fetched $NAME to $PLACE/$NAME"
echo "Save it by POST $BASE/api/skills/$NAME with the files that changed, then raise its version by POST $BASE/api/skills/$NAME/bump"
