#!/bin/sh
# boot-check: counts the starts of a new version, and brings the previous version back when it does not hold.
#
#   boot-check                  before each start (systemd: ExecStartPre=)
#   boot-check PROGRAM [ARG…]   the same, then becomes PROGRAM (OpenRC: supervise-daemon starts nothing before a respawn)
#
# It stands beside `current`, `previous` and `trial`. `syntra-agent install` writes it; an update never changes it, so a
# broken version cannot break the way back. `trial` exists from the moment of an update until the new version holds:
#
#   to=1.3.0      the version on trial
#   from=1.2.0    the version to return to
#   start         one line for each start so far, added here
#
# After three starts, the fourth brings `previous` back: one rename, which needs no disk space. Whatever fails here, the
# start continues: the exit status is always 0.

starts_allowed=3

say() {
    echo "boot-check: $1" >&2
}

# The directory of a link such as `versions/1.3.0`, or nothing.
target() {
    if [ -L "$root/$1" ]; then readlink "$root/$1"; fi
}

bring_back() {
    if [ "$(target previous)" != "versions/$from" ] || [ ! -x "$root/versions/$from/syntra-agent" ]; then
        say "cannot bring back version $from: it is not there; version $to starts again"
        return
    fi
    # -T: `current` is a link to a directory, and the rename must replace the link, not move into the directory.
    if mv -f -T "$root/previous" "$root/current"; then
        say "version $to did not hold: $1; version $from is back"
    else
        say "cannot bring back version $from: the rename failed; version $to starts again"
    fi
}

check() {
    [ -f "$root/trial" ] || return
    to='' from='' starts=0
    while read -r line; do
        case $line in
            to=*) to=${line#to=} ;;
            from=*) from=${line#from=} ;;
            start) starts=$((starts + 1)) ;;
        esac
    done <"$root/trial"
    if [ -z "$to" ] || [ -z "$from" ] || [ "$(target current)" != "versions/$to" ]; then
        # The update was interrupted before the links changed, or the previous version is back already.
        return
    fi
    if [ "$starts" -ge "$starts_allowed" ]; then
        bring_back "$starts starts"
    elif ! echo start >>"$root/trial"; then
        # Without a count, a version that crashes would start forever.
        bring_back "its starts cannot be counted"
    else
        sync "$root/trial" || say "cannot sync the count of starts"
    fi
}

root=$(cd "$(dirname "$0")" && pwd -P) || root=
if [ -n "$root" ]; then
    check 2>&1
fi
if [ $# -gt 0 ]; then
    exec "$@"
fi
exit 0
