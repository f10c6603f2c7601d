# shellcheck shell=bash disable=SC2154 # variables of common.sh
# Finds out which system packages are missing and installs them with apt-get. What is asked for is looked for by what it does,
# so that a compiler, a Java or a PostgreSQL from elsewhere counts too.

can_compile() { has cc && has c++ && has make; }
has_openssl() { pkg-config --exists openssl 2> /dev/null; }
has_java() { find_java > /dev/null; }
has_postgresql() { find_postgresql > /dev/null; }

# Prints a java of version 17 or newer.
find_java() {
  local java version
  for java in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    [ -x "$java" ] || continue
    version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ] && printf '%s\n' "$java" && return
  done
  return 1
}

# Prints the directory of the newest installed server's programs.
find_postgresql() {
  local bin newest
  newest=$(for bin in /usr/lib/postgresql/*/bin; do [ -x "$bin/initdb" ] && printf '%s\n' "$bin"; done | sort -V | tail -n 1)
  if [ -z "$newest" ] && has initdb && has pg_ctl; then newest=$(dirname "$(command -v initdb)"); fi
  [ -n "$newest" ] && printf '%s\n' "$newest"
}

# Older releases' default is Java 11.
java_package() {
  local version
  version=$(apt-cache policy default-jre-headless 2> /dev/null | sed -n 's/.*Candidate: 2:1\.\([0-9]*\).*/\1/p')
  if [ -n "$version" ] && [ "$version" -lt 17 ]; then echo openjdk-17-jre-headless; else echo default-jre-headless; fi
}

# Adds to the array `missing` what is needed to build.
want_build() {
  can_compile || missing+=(build-essential)
  has pkg-config || missing+=(pkg-config)
  has_openssl || missing+=(libssl-dev)
}

# The same for the servers; Maven only where it has something to fetch.
want_bed() {
  has_java || missing+=("$(java_package)")
  has_postgresql || missing+=(postgresql)
  has curl || missing+=(curl)
  is_fetched || has mvn || missing+=(maven)
}

# Installs what is in `missing`.
install_missing() {
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  has apt-get || fail "missing, and no apt-get to install it with: ${missing[*]} (Debian's names; install your system's equivalents)"
  if [ "$(id -u)" -ne 0 ]; then
    has sudo || fail "missing, and neither root nor sudo to install it with: run \`apt-get install ${missing[*]}\` as root"
    as_root=(sudo)
  fi
  say "installing with apt-get: ${missing[*]}"
  "${as_root[@]}" apt-get -qq -o Acquire::Retries=3 update || say "apt-get update failed; trying with the package lists at hand"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Acquire::Retries=3 install --no-install-recommends "${missing[@]}" > /dev/null ||
    fail "apt-get could not install: ${missing[*]}"
}

install_for_build() {
  local missing=()
  want_build
  install_missing
}

install_for_bed() {
  local missing=()
  want_bed
  install_missing
}

install_for_test() {
  local missing=()
  want_build
  want_bed
  install_missing
}
