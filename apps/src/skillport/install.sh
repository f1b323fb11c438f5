#!/bin/sh
# Installs a skill by a one-time token: sh install.sh sk_install_TOKEN
#
# It goes to ~/.claude/skills, or where SKILLPORT_SKILLS_DIR says. A version that is there already is replaced.
set -eu

BASE='@BASE@'
TOKEN="${1:-}"
SKILLS="${SKILLPORT_SKILLS_DIR:-$HOME/.claude/skills}"

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

case "$TOKEN" in
    *[!A-Za-z0-9_-]*) fail "this is no token" 2 ;;
    sk_install_?*) ;;
    *) fail "usage: install.sh sk_install_TOKEN" 2 ;;
esac
command -v curl >/dev/null 2>&1 || fail "curl is needed"
command -v tar >/dev/null 2>&1 || fail "tar is needed"

mkdir -p "$SKILLS"
# Beside the others, so that the skill comes to its place by being renamed.
WORK="$(mktemp -d "$SKILLS/.skillport-XXXXXX")"
trap 'rm -rf "$WORK"' EXIT
trap 'exit 1' HUP INT TERM

attempt=1
while :; do
    status="$(curl -sS --max-time 120 -o "$WORK/answer" -w '%{http_code}' -H 'Accept: application/x-tar' "$BASE/api/install/$TOKEN")" || status=000
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
if [ -e "$SKILLS/$NAME" ]; then
    mv "$SKILLS/$NAME" "$WORK/old"
fi
if ! mv "$WORK/new/$NAME" "$SKILLS/$NAME"; then
    [ ! -e "$WORK/old" ] || mv "$WORK/old" "$SKILLS/$NAME"
    fail "the skill cannot be put into $SKILLS"
fi
echo "Installed $NAME in $SKILLS/$NAME"
