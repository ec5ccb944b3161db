#!/usr/bin/env bash
# The services Syncline works with, real and on this machine: PostgreSQL, Apache Kafka (KRaft) and Apicurio Registry.
#
#   stack.sh up                    start what is not running and wait until it answers
#   stack.sh down                  stop everything; tables, topics and schemas stay
#   stack.sh destroy               stop everything and delete the stack's directory
#   stack.sh status                one line a service; exit code 0 only if all of them run
#   stack.sh env                   print the addresses: eval "$(deploy/stack.sh env)"
#   stack.sh start|stop SERVICE    one service: postgres, kafka or registry
#   stack.sh kill SERVICE          the same without warning (SIGKILL), for tests of faults
#
# Settings, from the environment:
#   SYNCLINE_STACK_DIR   everything the stack writes             ${TMPDIR:-/tmp}/syncline-stack
#   SYNCLINE_CACHE_DIR   downloads, shared between stacks        ~/.cache/syncline
#   PG_PORT, KAFKA_PORT (the controller takes the next), REGISTRY_PORT      25432, 29192, 28181
#   KAFKA_SETTINGS       further lines of the broker's properties; KAFKA_HEAP its heap          768m
#   KAFKA_CLUSTER        the cluster it belongs to, if the settings name voters; else it makes one of its own
#   PGBIN, JAVA_HOME     which PostgreSQL (14 or later) and Java (17 or later), else the newest found
#
# A second stack is another directory with other ports; it remembers its ports, so they are only needed once.
set -euo pipefail
shopt -s inherit_errexit

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DIR=$(realpath -m "${SYNCLINE_STACK_DIR:-${TMPDIR:-/tmp}/syncline-stack}")
# shellcheck source=deploy/find.sh
. "$HERE/find.sh"
CACHE=${SYNCLINE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/syncline}
SERVICES=(postgres kafka registry)

# Nothing outside of the directory, not even what Java puts into /tmp by itself.
JAVA_OPTIONS=(-XX:+ExitOnOutOfMemoryError -XX:-UsePerfData -Djava.io.tmpdir="$DIR/tmp")

START_SECONDS_MAX=120
STOP_SECONDS_MAX=30
FETCH_SECONDS_MAX=900
LOCK_SECONDS_MAX=1200

say() { echo "stack.sh: $*" >&2; }
die() { say "$*"; exit 1; }
install_hint() { die "$1; install it with: deploy/install.sh"; }

# ---- where things are ---------------------------------------------------------------------------------------------

# The environment wins, then what this directory was started with, then the default.
load_ports() {
  local remembered_pg='' remembered_kafka='' remembered_registry=''
  if [ -f "$DIR/ports" ]; then read -r remembered_pg remembered_kafka remembered_registry <"$DIR/ports"; fi
  PG_PORT=${PG_PORT:-${remembered_pg:-25432}}
  KAFKA_PORT=${KAFKA_PORT:-${remembered_kafka:-29192}}
  REGISTRY_PORT=${REGISTRY_PORT:-${remembered_registry:-28181}}
  local port
  for port in "$PG_PORT" "$KAFKA_PORT" "$REGISTRY_PORT"; do
    if ! [[ $port =~ ^[0-9]{1,5}$ ]] || ((port == 0 || port >= 65535)); then die "not a port: $port"; fi
  done
}

# A running stack cannot move; better to say so than to start half of it elsewhere.
remember_ports() {
  local ports="$PG_PORT $KAFKA_PORT $REGISTRY_PORT" service
  if [ -f "$DIR/ports" ] && [ "$(cat "$DIR/ports")" != "$ports" ]; then
    for service in "${SERVICES[@]}"; do
      if alive "$service"; then
        die "the stack in $DIR runs on ports $(cat "$DIR/ports"), not on $ports; stop it first: SYNCLINE_STACK_DIR=$DIR deploy/stack.sh down"
      fi
    done
  fi
  echo "$ports" >"$DIR/ports"
}

port_of() {
  case $1 in
    postgres) echo "$PG_PORT" ;;
    kafka) echo "$KAFKA_PORT" ;;
    registry) echo "$REGISTRY_PORT" ;;
  esac
}

# ---- processes ----------------------------------------------------------------------------------------------------

pid_file() { if [ "$1" = postgres ]; then echo "$DIR/postgres/postmaster.pid"; else echo "$DIR/$1.pid"; fi; }

pid_of() { head -n 1 "$(pid_file "$1")" 2>/dev/null || true; }

# A process id may have been given to another process since (a restart of the machine): ours names our directory.
alive() {
  local pid command
  pid=$(pid_of "$1")
  [ -n "$pid" ] || return 1
  command=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || return 1
  [[ $command == *"$DIR/$1"* ]]
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# wait_until SECONDS COMMAND...
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# Ended, though its parent may not have reaped it yet; only in that state (Z) are its ports and files surely free.
gone() { ! [ -d "/proc/$1" ] || grep -qs '^State:[[:space:]]*[ZX]' "/proc/$1/status"; }
all_gone() { local pid; for pid in "$@"; do gone "$pid" || return 1; done; }

# PostgreSQL refuses root, and its files belong to whom it runs as.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then
    id postgres >/dev/null 2>&1 || install_hint "PostgreSQL does not run as root and there is no user postgres"
    (cd / && runuser -u postgres -- "$@")
  else
    "$@"
  fi
}

# A service must not hold the lock or the terminal of the script that started it.
launch() { # SERVICE COMMAND...
  local service=$1
  shift
  if [ -f "$DIR/$service.log" ]; then mv "$DIR/$service.log" "$DIR/$service.log.1"; fi
  mkdir -p "$DIR/tmp"
  setsid "$@" >"$DIR/$service.log" 2>&1 </dev/null 9>&- &
  echo $! >"$(pid_file "$service")"
}

refuse_foreign_port() { # SERVICE PORT
  if answers "$2"; then die "port $2, wanted for $1, is taken by another process; choose others with PG_PORT, KAFKA_PORT, REGISTRY_PORT"; fi
}

# ---- PostgreSQL ---------------------------------------------------------------------------------------------------

init_postgres() { # BIN
  local data=$DIR/postgres
  if [ -f "$data/PG_VERSION" ]; then
    [ "$(cat "$data/PG_VERSION")" = "$(postgres_major "$1")" ] ||
      die "$data was made by PostgreSQL $(cat "$data/PG_VERSION"); set PGBIN to that version or run deploy/stack.sh destroy"
    return
  fi
  rm -rf "$data"
  mkdir -p "$data"
  if [ "$(id -u)" = 0 ]; then chown postgres: "$data"; fi
  as_postgres test -w "$data" || die "the user postgres cannot reach $data; set SYNCLINE_STACK_DIR to a directory open to it"
  # Trust is for development: the server listens on the loopback interface alone.
  as_postgres "$1/initdb" -D "$data" -U postgres --encoding=UTF8 --locale=C.UTF-8 --auth=trust --no-instructions >"$DIR/initdb.log" 2>&1 ||
    { rm -rf "$data"; tail -n 20 "$DIR/initdb.log" >&2; die "initdb failed"; }
}

configure_postgres() {
  cat >"$DIR/postgres/stack.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $PG_PORT
unix_socket_directories = ''
wal_level = logical
max_replication_slots = 400
max_wal_senders = 200
max_connections = 400
max_prepared_transactions = 10
shared_buffers = 256MB
fsync = on
autovacuum = on
log_line_prefix = '%m [%p] %a %d '
CONF
  grep -qx "include 'stack.conf'" "$DIR/postgres/postgresql.conf" || echo "include 'stack.conf'" >>"$DIR/postgres/postgresql.conf"
}

works_in() { local entry; for entry in /proc/[0-9]*/cwd; do if [ "$entry" -ef "$1" ]; then return 0; fi; done; return 1; }
nobody_works_in() { ! works_in "$1"; }

# A killed postmaster leaves its pid file, and PostgreSQL refuses to start while any process has that id: a corpse that
# nobody reaps (init in a container), or a stranger. Its children end by themselves; only then is the file a lie.
forget_dead_postmaster() {
  [ -f "$DIR/postgres/postmaster.pid" ] || return 0
  wait_until "$STOP_SECONDS_MAX" nobody_works_in "$DIR/postgres" || die "a process still works in $DIR/postgres"
  rm -f "$DIR/postgres/postmaster.pid"
}

launch_postgres() {
  local bin
  bin=$(find_postgres) || install_hint "no PostgreSQL server 14 or later${PGBIN:+ in PGBIN, $PGBIN}"
  refuse_foreign_port postgres "$PG_PORT"
  init_postgres "$bin"
  configure_postgres
  forget_dead_postmaster
  if [ -f "$DIR/postgres.log" ]; then mv "$DIR/postgres.log" "$DIR/postgres.log.1"; fi
  # pg_ctl, not launch: it starts the server in the way that stop_postgres expects.
  as_postgres "$bin/pg_ctl" -D "$DIR/postgres" --no-wait --silent start >"$DIR/postgres.log" 2>&1 </dev/null 9>&- || true
}

# The postmaster writes its state on the eighth line of its pid file.
ready_postgres() { [[ $(sed -n 8p "$DIR/postgres/postmaster.pid" 2>/dev/null) == ready* ]] && answers "$PG_PORT"; }

stop_postgres() {
  local bin
  bin=$(find_postgres) || install_hint "no PostgreSQL server 14 or later${PGBIN:+ in PGBIN, $PGBIN}"
  as_postgres "$bin/pg_ctl" -D "$DIR/postgres" -m fast -t "$STOP_SECONDS_MAX" --silent stop >/dev/null 2>&1 ||
    as_postgres "$bin/pg_ctl" -D "$DIR/postgres" -m immediate -t "$STOP_SECONDS_MAX" --silent stop >/dev/null
}

# ---- Kafka --------------------------------------------------------------------------------------------------------

configure_kafka() {
  local broker=PLAINTEXT://127.0.0.1:$KAFKA_PORT controller=CONTROLLER://127.0.0.1:$((KAFKA_PORT + 1))
  mkdir -p "$DIR/kafka"
  # The broker session is what a restart after SIGKILL waits for: the controller refuses the same broker twice. Where the disk
  # stands still for longer, the broker is taken for dead and has no partitions until it is back.
  cat >"$DIR/kafka.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$((KAFKA_PORT + 1))
listeners=$broker,$controller
advertised.listeners=$broker,$controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$DIR/kafka
num.partitions=1
auto.create.topics.enable=false
log.retention.ms=-1
message.max.bytes=10000000
replica.fetch.max.bytes=10000000
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.max.timeout.ms=900000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=${KAFKA_SESSION_MS:-6000}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
CONF
  if [ -n "${KAFKA_SETTINGS:-}" ]; then printf '%s\n' "$KAFKA_SETTINGS" >>"$DIR/kafka.properties"; fi
  # Warnings, and the one line that says the broker serves.
  cat >"$DIR/log4j2.properties" <<'CONF'
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=OUT
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=INFO
logger.txn.name=kafka.coordinator.transaction
logger.txn.level=DEBUG
logger.psm.name=org.apache.kafka.storage.internals.log.ProducerStateManager
logger.psm.level=INFO
logger.ul.name=org.apache.kafka.storage.internals.log.UnifiedLog
logger.ul.level=INFO
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c{1} %m%n
CONF
}

format_kafka() { # JAVA JARS
  if [ -f "$DIR/kafka/meta.properties" ]; then return; fi
  local cluster=${KAFKA_CLUSTER:-} standalone=()
  if [ -z "$cluster" ]; then
    cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | tr -d '=')
    standalone=(--standalone)
  fi
  "$1" -XX:-UsePerfData -cp "$2/kafka/*" -Dlog4j2.configurationFile="$DIR/log4j2.properties" kafka.tools.StorageTool \
    format -t "$cluster" -c "$DIR/kafka.properties" "${standalone[@]}" >"$DIR/format.log" 2>&1 ||
    { tail -n 20 "$DIR/format.log" >&2; die "could not format Kafka's storage"; }
}

launch_kafka() {
  local java jars
  java=$(find_java) || install_hint "no Java 17 or later${JAVA_HOME:+ in JAVA_HOME, $JAVA_HOME}"
  jars=$(fetch_jars)
  refuse_foreign_port kafka "$KAFKA_PORT"
  refuse_foreign_port "kafka's controller" $((KAFKA_PORT + 1))
  configure_kafka
  format_kafka "$java" "$jars"
  launch kafka "$java" -Xms256m -Xmx"${KAFKA_HEAP:-768m}" "${JAVA_OPTIONS[@]}" -cp "$jars/kafka/*" \
    -Dlog4j2.configurationFile="$DIR/log4j2.properties" kafka.Kafka "$DIR/kafka.properties"
}

# An open port is not enough: the broker listens before the controller lets it serve.
ready_kafka() { grep -q 'Kafka Server started' "$DIR/kafka.log" 2>/dev/null && answers "$KAFKA_PORT"; }

# ---- the registry -------------------------------------------------------------------------------------------------

launch_registry() {
  local java jars jar database
  java=$(find_java) || install_hint "no Java 17 or later${JAVA_HOME:+ in JAVA_HOME, $JAVA_HOME}"
  jars=$(fetch_jars)
  jar=$(echo "$jars"/registry/*-runner.jar)
  refuse_foreign_port registry "$REGISTRY_PORT"
  mkdir -p "$DIR/registry"
  # In a file, so that schema ids in the topics still mean something after a restart; WRITE_DELAY=0 makes a commit outlive SIGKILL.
  database="jdbc:h2:file:$DIR/registry/h2;WRITE_DELAY=0"
  launch registry "$java" -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "${JAVA_OPTIONS[@]}" \
    -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$REGISTRY_PORT" \
    -Dapicurio.storage.kind=sql -Dapicurio.storage.sql.kind=h2 -Dapicurio.datasource.url="$database" -jar "$jar"
}

ready_registry() { curl --silent --fail --max-time 5 --output /dev/null "http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7/subjects" 2>/dev/null; }

# ---- downloads ----------------------------------------------------------------------------------------------------

# Prints the directory of the jars; one for each content of pom.xml, made once and moved into place whole.
fetch_jars() {
  local pom=$HERE/pom.xml target
  target=$CACHE/stack-$(sha256sum "$pom" | cut -c 1-12)
  if ! [ -d "$target" ]; then fetch_into "$target" "$pom" || exit 1; fi
  echo "$target"
}

fetch_into() { # TARGET POM
  local new=$1.new
  mkdir -p "$CACHE"
  (
    flock -w "$LOCK_SECONDS_MAX" 8 || die "another stack has been downloading into $CACHE for too long"
    if [ -d "$1" ]; then exit 0; fi
    command -v mvn >/dev/null || install_hint "no Maven (mvn)"
    say "downloading Kafka and the registry into $CACHE (170 MB, once)"
    rm -rf "$new"
    timeout "$FETCH_SECONDS_MAX" mvn --batch-mode --quiet --strict-checksums -Dstyle.color=never -f "$2" -Dstack.jars="$new" package >&2 8>&- ||
      die "Maven could not resolve $2; it needs its repository, or a mirror in ~/.m2/settings.xml"
    mv "$new" "$1"
  ) 8>"$CACHE/lock"
}

# ---- verbs --------------------------------------------------------------------------------------------------------

await() { # SERVICE
  local service=$1 deadline=$((SECONDS + START_SECONDS_MAX))
  until "ready_$service"; do
    if ((SECONDS >= deadline)) || ! wait_until 5 alive "$service"; then
      tail -n 25 "$DIR/$service.log" >&2 || true
      if alive "$service"; then die "$service did not answer within $START_SECONDS_MAX s; all of its log: $DIR/$service.log"; fi
      die "$service ended while starting; all of its log: $DIR/$service.log"
    fi
    sleep 0.1
  done
}

# destroy deletes the directory, so it must never have been anybody else's.
prepare_dir() {
  if ! [ -f "$DIR/ports" ] && [ -n "$(ls -A --ignore=lock "$DIR")" ]; then
    rm -f "$DIR/lock"
    die "$DIR holds files that are no stack; set SYNCLINE_STACK_DIR to an empty directory"
  fi
  chmod a+rx "$DIR"
  remember_ports
}

start_services() { # SERVICE...
  prepare_dir
  local service
  for service in "$@"; do if ! alive "$service"; then "launch_$service"; fi; done
  for service in "$@"; do await "$service"; done
}

kill_service() { # SERVICE; of PostgreSQL the postmaster and its children, as when the machine fails
  local pid pids
  alive "$1" || die "$1 is not running"
  pid=$(pid_of "$1")
  mapfile -t pids < <(echo "$pid"; grep -o '[0-9]*' "/proc/$pid/task/$pid/children" 2>/dev/null)
  kill -KILL "${pids[@]}" 2>/dev/null || true
  wait_until "$STOP_SECONDS_MAX" all_gone "${pids[@]}" || die "$1 survived SIGKILL"
  if [ "$1" != postgres ]; then rm -f "$(pid_file "$1")"; fi
}

terminate() { # SERVICE
  local pid
  pid=$(pid_of "$1")
  kill -TERM "$pid" 2>/dev/null || true
  if ! wait_until "$STOP_SECONDS_MAX" gone "$pid"; then kill_service "$1"; fi
  rm -f "$(pid_file "$1")"
}

stop_service() { # SERVICE
  alive "$1" || return 0
  if [ "$1" = postgres ]; then stop_postgres; else terminate "$1"; fi
}

up() {
  start_services "${SERVICES[@]}"
  say "up: PostgreSQL 127.0.0.1:$PG_PORT, Kafka 127.0.0.1:$KAFKA_PORT, registry 127.0.0.1:$REGISTRY_PORT, all in $DIR"
}

down() {
  # The registry and Kafka take a while to end, each on its own: together.
  local service
  for service in registry kafka postgres; do stop_service "$service" & done
  wait
}

destroy() {
  down
  local service
  for service in "${SERVICES[@]}"; do if alive "$service"; then die "$service still runs; nothing deleted"; fi; done
  rm -rf "${DIR:?}"
}

status() {
  local service state pid all=0
  for service in "${SERVICES[@]}"; do
    pid=- state=stopped
    if alive "$service"; then
      pid=$(pid_of "$service")
      if "ready_$service"; then state=running; else state=starting; fi
    fi
    if [ "$state" != running ]; then all=1; fi
    printf '%-9s %-9s pid %-8s port %s\n' "$service" "$state" "$pid" "$(port_of "$service")"
  done
  return "$all"
}

print_env() {
  cat <<ENV
export SYNCLINE_STACK_DIR='$DIR'
export BOOTSTRAP=127.0.0.1:$KAFKA_PORT KAFKA_PORT=$KAFKA_PORT
export REGISTRY=http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7 REGISTRY_PORT=$REGISTRY_PORT
export PG_HOST=127.0.0.1 PG_PORT=$PG_PORT PG_USER=postgres
export PG_DSN=postgres://postgres@127.0.0.1:$PG_PORT
ENV
}

usage() { sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "${BASH_SOURCE[0]}"; }

one_service() {
  case ${1:-} in
    postgres | kafka | registry) ;;
    *) die "which service? postgres, kafka or registry" ;;
  esac
}

# Two callers at once would start a service twice. The lock goes with the directory: whoever waited for one that
# destroy has deleted in the meantime takes the new one.
alone() {
  local file=$DIR/lock
  while :; do
    mkdir -p "$DIR"
    exec 9>"$file"
    flock -w "$LOCK_SECONDS_MAX" 9 || die "another stack.sh has been at work on $DIR for too long"
    if [ "$file" -ef /proc/self/fd/9 ]; then return; fi
  done
}

main() {
  local verb=${1:-}
  load_ports
  case $verb in
    up) alone; up ;;
    down | destroy)
      [ -f "$DIR/ports" ] || { say "no stack in $DIR, nothing to do"; exit 0; }
      alone
      "$verb"
      ;;
    start) one_service "${2:-}"; alone; start_services "$2" ;;
    stop) one_service "${2:-}"; alone; stop_service "$2" ;;
    kill) one_service "${2:-}"; alone; kill_service "$2" ;;
    status) status ;;
    env) print_env ;;
    help | -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
  esac
}

main "$@"
