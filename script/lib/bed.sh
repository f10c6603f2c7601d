# shellcheck shell=bash disable=SC2154 # variables of common.sh
# Servers for the tests: PostgreSQL, Kafka and Kafka Connect, all on 127.0.0.1, on ports found free, in one directory of their own.
# A bed is a directory; `start_bed DIR` fills it and writes DIR/env, `stop_bed DIR` ends what runs in it and removes it.
# Nothing in it is meant to last: PostgreSQL does not sync, and all are ended without ceremony.

new_bed() {
  local bed
  bed=$(mktemp -d "${TMPDIR:-/tmp}/entail-bed.XXXXXX")
  chmod 711 "$bed" # PostgreSQL may run as another user
  printf '%s\n' "$bed"
}

start_bed() {
  local bed=$1 java pg_bin
  java=$(find_java) || fail "no Java 17 or newer found"
  pg_bin=$(find_postgresql) || fail "no PostgreSQL server found"
  mkdir "$bed/tests" # where tests put servers of their own
  chmod 1777 "$bed/tests"
  start_postgresql "$bed" "$pg_bin"
  start_kafka "$bed" "$java"
  start_connect "$bed" "$java"
  cat > "$bed/env" <<END
export ENTAIL_TEST_KAFKA=127.0.0.1:$(cat "$bed/kafka/port")
export ENTAIL_TEST_KAFKA_GUARDED=127.0.0.1:$(cat "$bed/kafka/guarded-port")
export ENTAIL_TEST_CONNECT=http://127.0.0.1:$(cat "$bed/connect/port")
export ENTAIL_TEST_POSTGRES=postgres://postgres@127.0.0.1:$(cat "$bed/postgres/port")
export ENTAIL_TEST_PG_BIN=$pg_bin
export ENTAIL_TEST_DIR=$bed/tests
END
}

# Also ends servers that a killed test has left. With ENTAIL_KEEP=1 the files stay, logs among them.
stop_bed() {
  local bed=$1 file
  [ -d "$bed" ] || return 0
  kill_server "$bed/connect"
  kill_server "$bed/kafka"
  for file in "$bed"/tests/*/kafka; do kill_server "$file"; done
  for file in "$bed"/postgres/data/postmaster.pid "$bed"/tests/*/data/postmaster.pid; do
    [ -f "$file" ] || continue
    as_postgres "$(find_postgresql)/pg_ctl" -D "$(dirname "$file")" -m immediate -w stop > /dev/null 2>&1 || true
  done
  if [ "${ENTAIL_KEEP:-}" = 1 ]; then
    say "kept: $bed"
  else
    rm -rf "$bed"
  fi
}

# PostgreSQL's programs refuse root. The working directory must be one that the other user may enter.
as_postgres() {
  if [ "$(id -u)" -eq 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

start_postgresql() {
  local bed=$1 bin=$2 dir=$1/postgres attempt
  mkdir "$dir"
  [ "$(id -u)" -ne 0 ] || chown postgres "$dir"
  as_postgres "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync > "$bed/initdb.log" 2>&1 || fail_with_log "initdb failed" "$bed/initdb.log"
  as_postgres tee -a "$dir/data/postgresql.conf" > /dev/null <<END
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
max_wal_senders = 100
max_replication_slots = 100
max_connections = 200
fsync = off
log_line_prefix = '%m [%p] %a '
END
  for attempt in 1 2 3; do
    free_ports 1 > "$dir/port"
    as_postgres "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -o "-p $(cat "$dir/port")" -w -t 180 start > /dev/null 2>&1 && return
    may_retry "$attempt" "$dir/log" || break
  done
  fail_with_log "PostgreSQL did not start" "$dir/log"
}

start_kafka() {
  local bed=$1 java=$2 dir=$1/kafka attempt port guarded controller cluster
  for attempt in 1 2 3; do
    rm -rf "$dir"
    mkdir "$dir"
    read -r port guarded controller <<< "$(free_ports 3)"
    echo "$port" > "$dir/port"
    echo "$guarded" > "$dir/guarded-port"
    kafka_properties "$dir" "$port" "$guarded" "$controller" > "$dir/server.properties"
    # 22 characters, another one for every cluster.
    cluster=entail-$(head -c 12 /dev/urandom | base64 | tr '+/' '-_' | cut -c 1-15)
    (exec_java "$java" 128m kafka.tools.StorageTool format --standalone --cluster-id "$cluster" -c "$dir/server.properties") > "$dir/format.log" 2>&1 ||
      fail_with_log "Kafka's storage could not be formatted" "$dir/format.log"
    run_server "$java" "$dir" 512m kafka.Kafka "$dir/server.properties"
    wait_for_server "$dir" is_open "$port" && return
    may_retry "$attempt" "$dir/log" || break
    kill_server "$dir"
  done
  fail_with_log "Kafka did not start" "$dir/log"
}

# Goes on with what a killed one held.
restart_kafka() {
  local java=$2 dir=$1/kafka
  run_server "$java" "$dir" 512m kafka.Kafka "$dir/server.properties"
  wait_for_server "$dir" is_open "$(cat "$dir/port")" || fail_with_log "Kafka did not start again" "$dir/log"
}

# A record of 20 MB must pass. Whoever comes by the guarded port is `entail`, who may do what an access list allows; all others may do anything.
kafka_properties() {
  local dir=$1 port=$2 guarded=$3 controller=$4
  cat <<END
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,GUARDED://127.0.0.1:$guarded,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port,GUARDED://127.0.0.1:$guarded,CONTROLLER://127.0.0.1:$controller
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,GUARDED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=PLAIN
listener.name.guarded.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_entail="entail";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
log.dirs=$dir/logs
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=true
message.max.bytes=33554432
END
}

start_connect() {
  local bed=$1 java=$2 dir=$1/connect attempt port
  for attempt in 1 2 3; do
    rm -rf "$dir"
    mkdir "$dir"
    port=$(free_ports 1)
    echo "$port" > "$dir/port"
    connect_properties "$(cat "$bed/kafka/port")" "$port" > "$dir/worker.properties"
    run_server "$java" "$dir" 1g org.apache.kafka.connect.cli.ConnectDistributed "$dir/worker.properties"
    wait_for_server "$dir" has_debezium "http://127.0.0.1:$port" && return
    may_retry "$attempt" "$dir/log" || break
    kill_server "$dir"
  done
  fail_with_log "Kafka Connect did not start" "$dir/log"
}

connect_properties() {
  local kafka=$1 port=$2
  cat <<END
bootstrap.servers=127.0.0.1:$kafka
group.id=connect
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
key.converter.schemas.enable=false
value.converter.schemas.enable=false
config.storage.topic=connect-configs
offset.storage.topic=connect-offsets
status.storage.topic=connect-status
config.storage.replication.factor=1
offset.storage.replication.factor=1
status.storage.replication.factor=1
offset.storage.partitions=1
status.storage.partitions=1
offset.flush.interval.ms=1000
producer.max.request.size=33554432
producer.buffer.memory=67108864
listeners=http://127.0.0.1:$port
rest.advertised.host.name=127.0.0.1
plugin.path=$fetched/plugins
plugin.discovery=service_load
connector.client.config.override.policy=All
END
}

# Replaces the (sub)shell it runs in.
exec_java() {
  local java=$1 heap=$2
  shift 2
  exec "$java" "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true \
    -Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=off -Dorg.slf4j.simpleLogger.log.io.debezium=info -cp "$fetched/jars/*" "$@"
}

# In the background, with its log and process id in DIR. It outlives the terminal.
run_server() {
  local java=$1 dir=$2
  shift 2
  (trap '' HUP && exec_java "$java" "$@") < /dev/null > "$dir/log" 2>&1 &
  echo $! > "$dir/pid"
}

# Only a process that has the directory in its command line: ids are used again.
is_running() {
  local dir=$1 pid
  pid=$(cat "$dir/pid" 2> /dev/null) && [ -n "$pid" ] && tr '\0' '\n' 2> /dev/null < "/proc/$pid/cmdline" | grep -qF "$dir/"
}

kill_server() {
  local dir=$1 _
  is_running "$dir" || return 0
  kill -KILL "$(cat "$dir/pid")" 2> /dev/null || true
  for _ in {1..50}; do
    is_running "$dir" || return 0
    sleep 0.1
  done
}

# Waits up to three minutes for the condition (a busy machine is slow); fails at once when the server has ended.
wait_for_server() {
  local dir=$1 deadline=$((SECONDS + 180))
  shift
  sleep 0.2
  until "$@"; do
    is_running "$dir" || return 1
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

is_open() { (: < "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

has_debezium() { curl -fs --max-time 5 "$1/connector-plugins" 2> /dev/null | grep -q debezium; }

# A port that was free can be taken before the server binds it: another run of this, for one.
may_retry() {
  local attempt=$1 log=$2
  [ "$attempt" -lt 3 ] && grep -qiE 'address already in use|already in use' "$log" && say "a port was taken meanwhile, once more"
}

# Prints COUNT ports that nobody listens on, below those the system gives to outgoing connections.
free_ports() {
  local count=$1 port ports=()
  while [ ${#ports[@]} -lt "$count" ]; do
    port=$((20000 + RANDOM % 12000))
    is_open "$port" || [[ " ${ports[*]} " = *" $port "* ]] || ports+=("$port")
  done
  echo "${ports[*]}"
}

fail_with_log() {
  say "$1; the end of $2:"
  tail -n 30 "$2" >&2 || true
  exit 1
}
