# shellcheck shell=bash disable=SC2154 # variables of common.sh
# The jars of Kafka, Kafka Connect and the Debezium plugin, fetched once by Maven. Versions are in script/pom.xml.
# They are kept under the hash of that file and of this one: another version never meets old jars.

fetched=$cache/$(cat "$root/script/pom.xml" "$root/script/lib/fetch.sh" | sha256sum | cut -c 1-16)

is_fetched() { [ -d "$fetched" ]; }

fetch() {
  is_fetched && return
  local partial attempt
  mkdir -p "$cache"
  find "$cache" -maxdepth 1 -name 'partial.*' -mmin +60 -exec rm -rf {} + # left by runs that were cut off
  partial=$(mktemp -d "$cache/partial.XXXXXX")
  say "fetching Kafka and Debezium with Maven (60 MB) into $fetched"
  for attempt in 1 2 3; do
    mvn -B -q -C -Dstyle.color=never -f "$root/script/pom.xml" -Dbed.dir="$partial" generate-resources && break
    [ "$attempt" -lt 3 ] || { rm -rf "$partial"; fail "Maven could not fetch the jars: see above"; }
    say "Maven failed, once more"
  done
  chmod 755 "$partial"
  # Of two runs at once the first to finish wins.
  mv -T "$partial" "$fetched" 2> /dev/null || rm -rf "$partial"
  is_fetched || fail "could not move the jars to $fetched"
}
