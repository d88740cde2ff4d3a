# Sourced by the benchmarks: their arguments, psql, and the settings of the server that test/server has started.
# shellcheck shell=bash

die() { echo "bench: $*" >&2; exit 1; }
argument() { (( $# > 1 )) || { usage >&2; exit 2; }; printf '%s' "$2"; }
number() { [[ $(argument "$@") =~ ^[1-9][0-9]*$ ]] || die "$1 takes a number from 1"; printf '%s' "$2"; }

sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

# No wait for the disk, no checkpoint or vacuum by chance: what is left is what the contestants differ in.
# configure [SQL...]: with more settings.
configure() {
    sql -f - <<SETTINGS
ALTER SYSTEM SET fsync = off;
ALTER SYSTEM SET synchronous_commit = off;
ALTER SYSTEM SET shared_buffers = '1GB';
ALTER SYSTEM SET autovacuum = off;
ALTER SYSTEM SET checkpoint_timeout = '1h';
ALTER SYSTEM SET max_wal_size = '16GB';
$*
SETTINGS
    local restart=(pg_ctl restart -s -w -m fast -D "$TEST_WORK/data" -l "$TEST_WORK/server.log")
    (( EUID != 0 )) || restart=(runuser -u postgres -- env PATH="$PATH" "${restart[@]}")
    "${restart[@]}" </dev/null
}
