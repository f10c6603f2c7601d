# shellcheck shell=bash disable=SC2034 # variables are for the scripts that source this file
# What every script here shares: where things are, how to say something, stages with their times, and a Rust toolchain.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=$(realpath -m "${ENTAIL_CACHE:-$root/.cache/bed}")
features=(--no-default-features --features tls-system)

say() { printf 'script/%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

has() { command -v "$1" > /dev/null 2>&1; }

# Finds cargo, also where rustup has put it without the PATH knowing, and checks the version Cargo.toml asks for.
need_rust() {
  local wanted have
  has cargo || PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  has cargo || fail "no cargo found: install Rust from https://rustup.rs, then run this again"
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  have=$(cargo --version | cut -d ' ' -f 2)
  [ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ] ||
    fail "Rust $have is installed and $wanted or newer is needed: run \`rustup update stable\`"
}

# Stages: `stage NAME COMMAND…` runs one and remembers its time; `report_stages` prints them.
stage_names=()
stage_times=()
stage_now=
stage_started=0
stage_group=

begin_stage() {
  stage_now=$1
  stage_started=$SECONDS
  say "$1 …"
}

end_stage() {
  stage_names+=("$stage_now")
  stage_times+=("$((SECONDS - stage_started))")
  stage_now=
}

# Runs in a process group of its own and waits, so that a signal to this script is served at once and reaches the whole group (see `stop_stage`).
stage() {
  begin_stage "$1"
  shift
  set -m
  ("$@") < /dev/null &
  stage_group=$!
  set +m
  local status=0
  wait "$stage_group" || status=$?
  [ "$status" -eq 0 ] || exit "$status"
  stage_group=
  end_stage
}

# Stages that may ask for a password need the terminal.
foreground_stage() {
  begin_stage "$1"
  shift
  "$@"
  end_stage
}

stop_stage() {
  [ -n "$stage_group" ] || return 0
  local group=$stage_group _
  stage_group=
  kill -TERM -- "-$group" 2> /dev/null || return 0
  for _ in {1..50}; do
    kill -0 -- "-$group" 2> /dev/null || return 0
    sleep 0.1
  done
  kill -KILL -- "-$group" 2> /dev/null || true
}

report_stages() {
  local i
  for i in "${!stage_names[@]}"; do
    printf '  %-22s %5d s\n' "${stage_names[i]}" "${stage_times[i]}"
  done >&2
}
