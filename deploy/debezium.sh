#!/usr/bin/env bash
# A real Debezium beside the stack: one Kafka Connect worker (alone in its group, or standalone) with Debezium's
# PostgreSQL connector, its JDBC sink and an Avro converter that writes Confluent's wire format.
#
#   debezium.sh start DIR          start a worker whose files are in DIR and wait until it answers; prints its URL
#   debezium.sh stop DIR           stop it in order (SIGTERM); what it has committed stays in its topics
#   debezium.sh kill DIR           stop it without warning (SIGKILL)
#   debezium.sh status DIR         exit code 0 if it runs
#   debezium.sh fetch              download what it needs and print the directory; start does it too
#   debezium.sh python             make a Python with confluent-kafka, and print its path
#
# Connectors come and go by its REST interface: curl -H 'Content-Type: application/json' URL/connectors -d @connector.json
# They need topic.creation.default.partitions and .replication.factor: the stack's broker makes no topics by itself.
#
# Settings, from the environment:
#   BOOTSTRAP, REGISTRY  the stack, by eval "$(deploy/stack.sh env)"
#   CONNECT_PORT         of the REST interface, else a free one
#   CONNECT_GROUP        also the beginning of the names of its three topics; for a worker that goes on after another one,
#                        else a new one for each DIR
#   CONNECT_MODE         distributed, or standalone: offsets in DIR/offsets.dat, and connectors that a restart forgets
#   CONNECT_HEAP_MB      512
#   CONNECT_CONVERTER    a Java file: a converter that is built and used in place of Apicurio's; it is told the REGISTRY
#   SYNCLINE_CACHE_DIR, JAVA_HOME    as for stack.sh
set -euo pipefail
shopt -s inherit_errexit

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/find.sh
. "$HERE/find.sh"
CACHE=${SYNCLINE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/syncline}
MODE=${CONNECT_MODE:-distributed}

START_SECONDS_MAX=300
STOP_SECONDS_MAX=30
FETCH_SECONDS_MAX=900
LOCK_SECONDS_MAX=1200

say() { echo "debezium.sh: $*" >&2; }
die() { say "$*"; exit 1; }

# ---- downloads ----------------------------------------------------------------------------------------------------

# Makes the directory NAME of the cache once, whoever asks: COMMAND fills a new one, which is moved into place whole.
once() { # NAME COMMAND...
  local target=$CACHE/$1 new=$CACHE/$1.new
  shift
  if ! [ -d "$target" ]; then
    mkdir -p "$CACHE"
    (
      flock -w "$LOCK_SECONDS_MAX" 8 || die "another download into $CACHE has been at work for too long"
      if [ -d "$target" ]; then exit 0; fi
      rm -rf "$new"
      "$@" "$new" >&2 8>&-
      mv "$new" "$target"
    ) 8>"$CACHE/debezium.lock" || exit 1
  fi
  echo "$target"
}

fingerprint() { sha256sum "$1" | cut -c 1-12; }

maven() { # POM PROPERTY DIRECTORY
  command -v mvn >/dev/null || die "no Maven (mvn); install it with: deploy/install.sh"
  timeout "$FETCH_SECONDS_MAX" mvn --batch-mode --quiet --strict-checksums -Dstyle.color=never -f "$1" "-D$2=$3" package ||
    die "Maven could not resolve $1; it needs its repository, or a mirror in ~/.m2/settings.xml"
}
fill_plugins() { say "downloading Debezium into $CACHE (85 MB, once)"; maven "$HERE/debezium.pom.xml" debezium.jars "$1"; }
fill_kafka() { say "downloading Kafka into $CACHE (170 MB, once)"; maven "$HERE/pom.xml" stack.jars "$1"; }

# Connect itself comes with Kafka's command-line tools, which the stack has.
kafka_jars() { once "stack-$(fingerprint "$HERE/pom.xml")" fill_kafka; }
plugins() { once "debezium-$(fingerprint "$HERE/debezium.pom.xml")" fill_plugins; }

# The converter of CONNECT_CONVERTER with all that Apicurio's has beside it: a plugin sees nothing of another.
fill_converter() { # KAFKA PLUGINS DIR
  local java bin
  java=$(find_java) || die "no Java 17 or later; install it with: deploy/install.sh"
  bin=$(dirname "$java")
  if ! [ -x "$bin/javac" ]; then
    bin=$(command -v javac) || die "no Java compiler; install it with: deploy/install.sh --peers"
    bin=$(dirname "$bin")
  fi
  mkdir -p "$3/own-converter" "$3/classes"
  cp "$2"/converter/*.jar "$3/own-converter/"
  "$bin/javac" -nowarn --release 17 -d "$3/classes" -cp "$1/kafka/*:$2/converter/*" "$CONNECT_CONVERTER" ||
    die "$CONNECT_CONVERTER does not compile"
  (cd "$3/classes" && "$bin/jar" cf "$3/own-converter/own.jar" .)
  rm -rf "$3/classes"
}

own_converter() { # KAFKA PLUGINS
  once "converter-$(fingerprint "$CONNECT_CONVERTER")-$(fingerprint "$HERE/debezium.pom.xml")" fill_converter "$1" "$2"
}

# A virtual environment cannot be moved: its scripts name it. So this one is made in its place, and marked when whole.
python() {
  local target
  target=$CACHE/python-$(fingerprint "$HERE/debezium.requirements.txt")
  mkdir -p "$CACHE"
  (
    flock -w "$LOCK_SECONDS_MAX" 8 || die "another download into $CACHE has been at work for too long"
    if [ -e "$target/complete" ]; then exit 0; fi
    say "downloading confluent-kafka for Python into $CACHE (40 MB, once)"
    rm -rf "$target"
    python3 -m venv "$target" || die "no Python with venv; install python3-venv"
    timeout "$FETCH_SECONDS_MAX" "$target/bin/pip" install --quiet --disable-pip-version-check \
      --requirement "$HERE/debezium.requirements.txt" || die "pip could not install confluent-kafka; it needs PyPI or a mirror of it"
    touch "$target/complete"
  ) 8>"$CACHE/python.lock" >&2 || exit 1
  echo "$target/bin/python"
}

fetch() {
  local kafka plugins
  kafka=$(kafka_jars)
  plugins=$(plugins)
  if [ -n "${CONNECT_CONVERTER:-}" ]; then own_converter "$kafka" "$plugins" >/dev/null; fi
  echo "$plugins"
}

# ---- the worker ---------------------------------------------------------------------------------------------------

pid_of() { cat "$DIR/connect.pid" 2>/dev/null || true; }

# A process id may have been given to another process since: ours names our directory.
alive() {
  local pid command
  pid=$(pid_of)
  [ -n "$pid" ] || return 1
  command=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || return 1
  [[ $command == *"$DIR/worker.properties"* ]]
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
  local port
  for _ in $(seq 50); do
    port=$((25500 + RANDOM % 4000))
    if ! answers "$port"; then echo "$port"; return; fi
  done
  die "found no free port between 25500 and 29500; choose one with CONNECT_PORT"
}

# Apicurio's converter, told to write what Confluent's writes: five bytes before the record, the id of the content, no
# headers, and the schema whole (else nested records become references to further schemas).
converter() { # key|value
  if [ -n "${CONNECT_CONVERTER:-}" ]; then
    echo "$1.converter=$(sed -n 's/^package \(.*\);/\1./p' "$CONNECT_CONVERTER")$(basename "$CONNECT_CONVERTER" .java)"
    echo "$1.converter.registry=$REGISTRY"
    return
  fi
  cat <<CONF
$1.converter=io.apicurio.registry.utils.converter.AvroConverter
$1.converter.apicurio.registry.url=${REGISTRY%/apis/*}/apis/registry/v2
$1.converter.apicurio.registry.as-confluent=true
$1.converter.apicurio.registry.use-id=contentId
$1.converter.apicurio.registry.headers.enabled=false
$1.converter.apicurio.registry.auto-register=true
$1.converter.apicurio.registry.auto-register.if-exists=RETURN_OR_UPDATE
$1.converter.apicurio.registry.find-latest=false
$1.converter.apicurio.registry.check-period-ms=3600000
$1.converter.apicurio.registry.artifact-resolver-strategy=io.apicurio.registry.serde.strategy.TopicIdStrategy
$1.converter.apicurio.registry.dereference-schema=true
$1.converter.apicurio.registry.serializer.dereference-schema=true
$1.converter.apicurio.registry.deserializer.dereference-schema=true
CONF
}

# Where the worker keeps what it must remember, and who it shares that with.
storage() {
  if [ "$MODE" = standalone ]; then echo "offset.storage.file.filename=$DIR/offsets.dat"; return; fi
  local group=${CONNECT_GROUP:-connect-$(head -c 6 /dev/urandom | od -An -tx1 | tr -d ' \n')}
  cat <<CONF
group.id=$group
config.storage.topic=$group.configs
offset.storage.topic=$group.offsets
status.storage.topic=$group.status
config.storage.replication.factor=1
offset.storage.replication.factor=1
status.storage.replication.factor=1
offset.storage.partitions=1
status.storage.partitions=1
scheduled.rebalance.max.delay.ms=0
session.timeout.ms=6000
heartbeat.interval.ms=1000
CONF
}

configure() { # PORT PLUGINS
  {
    storage
    cat <<CONF
bootstrap.servers=$BOOTSTRAP
offset.flush.interval.ms=1000
connector.client.config.override.policy=All
plugin.path=$2
plugin.discovery=only_scan
listeners=http://127.0.0.1:$1
CONF
    converter key
    converter value
  } >"$DIR/worker.properties"
  cat >"$DIR/log4j2.properties" <<'CONF'
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=OUT
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c{1} %m%n
CONF
}

# Before it has joined its group it answers, but knows no connectors.
ready() { curl --silent --fail --max-time 5 --output /dev/null "$1/connectors"; }

start() {
  local java kafka plugins port url pid deadline class=ConnectDistributed
  if [ "$MODE" = standalone ]; then class=ConnectStandalone; fi
  if alive; then die "a worker runs in $DIR already"; fi
  : "${BOOTSTRAP:?run: eval "$(deploy/stack.sh env)"}" "${REGISTRY:?run: eval "$(deploy/stack.sh env)"}"
  java=$(find_java) || die "no Java 17 or later; install it with: deploy/install.sh"
  kafka=$(kafka_jars)
  plugins=$(plugins)
  if [ -n "${CONNECT_CONVERTER:-}" ]; then plugins=$plugins,$(own_converter "$kafka" "$plugins"); fi
  port=${CONNECT_PORT:-$(free_port)} url=http://127.0.0.1:$port
  configure "$port" "$plugins"
  # Small and soon awake, which suits tests; whoever measures it gives it more.
  local options
  read -ra options <<<"${CONNECT_JAVA_OPTIONS:--XX:+UseSerialGC -XX:TieredStopAtLevel=1}"
  setsid "$java" "-Xmx${CONNECT_HEAP_MB:-512}m" "${options[@]}" -XX:-UsePerfData \
    -Djava.io.tmpdir="$DIR" -cp "$kafka/kafka/*" -Dlog4j2.configurationFile="$DIR/log4j2.properties" \
    "org.apache.kafka.connect.cli.$class" "$DIR/worker.properties" >"$DIR/connect.log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$DIR/connect.pid"
  deadline=$((SECONDS + START_SECONDS_MAX))
  until ready "$url"; do
    # Not alive(): until it is Java, which may take a while under load, its command does not name our directory.
    if gone "$pid" || ((SECONDS >= deadline)); then
      tail -n 25 "$DIR/connect.log" >&2
      die "Kafka Connect did not answer on $url; all of its log: $DIR/connect.log"
    fi
    sleep 0.2
  done
  echo "$url"
}

# Ended, though nobody may have reaped it yet.
gone() { ! [ -d "/proc/$1" ] || grep -qs '^State:[[:space:]]*[ZX]' "/proc/$1/status"; }

end() { # SIGNAL
  local pid deadline=$((SECONDS + STOP_SECONDS_MAX))
  alive || return 0
  pid=$(pid_of)
  kill "-$1" "$pid" 2>/dev/null || true
  until gone "$pid"; do
    if ((SECONDS >= deadline)); then kill -KILL "$pid" 2>/dev/null || true; fi
    sleep 0.1
  done
  rm -f "$DIR/connect.pid"
}

usage() { sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "${BASH_SOURCE[0]}"; }

in_directory() { # DIR
  [ -n "${1:-}" ] || die "which directory? see: debezium.sh help"
  mkdir -p "$1"
  DIR=$(realpath "$1")
}

main() {
  case ${1:-} in
    fetch) fetch ;;
    python) python ;;
    start) in_directory "${2:-}"; start ;;
    stop) in_directory "${2:-}"; end TERM ;;
    kill) in_directory "${2:-}"; end KILL ;;
    status) in_directory "${2:-}"; alive ;;
    help | -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
  esac
}

main "$@"
