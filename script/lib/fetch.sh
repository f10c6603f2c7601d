# shellcheck shell=bash disable=SC2154 # variables of common.sh
# The jars of Kafka, Kafka Connect and the Debezium plugin, fetched once by Maven. Versions are in script/pom.xml.
# They are kept under the hash of that file and of this one: another version never meets old jars.

fetched=$cache/$(cat "$root/script/pom.xml" "$root/script/lib/fetch.sh" | sha256sum | cut -c 1-16)

is_fetched() { [ -d "$fetched" ]; }

fetch() {
  is_fetched && return
  local partial
  mkdir -p "$cache"
  find "$cache" -maxdepth 1 -name 'partial.*' -mmin +60 -exec rm -rf {} + # left by runs that were cut off
  partial=$(mktemp -d "$cache/partial.XXXXXX")
  say "fetching Kafka and Debezium with Maven (60 MB) into $fetched"
  if ! fetch_into "$partial"; then
    grep . "$partial/log" | head -n 5 >&2 || true
    rm -rf "$partial"
    fail "Maven could not fetch the jars"
  fi
  chmod 755 "$partial"
  # Of two runs at once the first to finish wins.
  mv -T "$partial" "$fetched" 2> /dev/null || rm -rf "$partial"
  is_fetched || fail "could not move the jars to $fetched"
}

fetch_into() {
  local attempt
  for attempt in 1 2 3; do
    [ "$attempt" -eq 1 ] || say "Maven failed, once more"
    mvn -B -q -C -f "$root/script/pom.xml" -Dbed.dir="$1" generate-resources > "$1/log" 2>&1 && return
  done
  return 1
}
