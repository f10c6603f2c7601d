# shellcheck shell=bash disable=SC2154 # variables of common.sh
# cargo-deny: advisories, licences, sources and bans.

install_deny() {
  cargo deny --version > /dev/null 2>&1 && return
  say "installing cargo-deny 0.20.2 (takes some minutes)"
  cargo install cargo-deny@0.20.2 --locked --quiet
}

# The advisories come from the network. Where there is none, a snapshot stands in, and what was used is said.
check_deny() {
  local snapshot
  cd "$root" || return
  cargo fetch --locked --quiet # crates of other platforms are looked at too, offline
  if timeout --foreground 120 cargo deny fetch db > "$cache/deny-fetch.log" 2>&1; then
    cargo deny check
    say "advisories: checked against the database as it is today"
  elif snapshot=$(find_snapshot); then
    say "the advisory database could not be fetched; using the snapshot in $snapshot"
    check_with_snapshot "$snapshot"
    say "advisories: checked against the snapshot in $snapshot"
  else
    cargo deny --offline check bans licenses sources
    say "advisories: NOT CHECKED. The database could not be fetched ($(grep . "$cache/deny-fetch.log" | tail -n 1))"
    say "and there is no snapshot (a checkout of it, named by ENTAIL_ADVISORY_DB)"
  fi
}

find_snapshot() {
  local dir
  for dir in ${ENTAIL_ADVISORY_DB:+"$ENTAIL_ADVISORY_DB"} "$root/../shared/advisory-db"; do
    [ -d "$dir/crates" ] && (cd "$dir" && pwd) && return
  done
  return 1
}

# In a database directory of its own, made anew: the user's own copy of the database stays as it is.
check_with_snapshot() {
  local databases=$cache/advisory-dbs copy
  copy=$databases/advisory-db-3157b0e258782691 # the name that goes with the default URL
  rm -rf "$databases"
  mkdir -p "$databases"
  cp -R "$1" "$copy"
  chmod -R u+w "$copy"
  [ -d "$copy/.git" ] || commit_all "$copy"
  sed "s|^\[advisories\]|&\ndb-path = \"$databases\"|" deny.toml > "$databases/deny.toml"
  cargo deny --offline --config "$databases/deny.toml" check
}

commit_all() {
  git -C "$1" init -q
  git -C "$1" add -A
  git -C "$1" -c user.name=entail -c user.email=entail@localhost -c commit.gpgsign=false commit -q -m snapshot
}
