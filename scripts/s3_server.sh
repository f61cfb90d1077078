#!/usr/bin/env bash
# A real S3 server on loopback: Ceph's radosgw over one monitor and one OSD that keeps everything in memory.
#
#   scripts/s3_server.sh run           start, print "export ..." lines, stop when stdin ends or on a signal
#   scripts/s3_server.sh start DIR     the same in the background:  eval "$(s3_server.sh start DIR)"
#   scripts/s3_server.sh stop DIR      stop what start left running, and remove its state, which is in DIR/s3_server
#
# Debian's packages are downloaded with apt and unpacked below the user's cache; nothing is installed and no root is
# needed. Ports are free ones, keys are made up anew. About 7 s and 1.1 GB of memory.
# Exit code 3: this machine lacks something that the server needs; the last line on stderr says what.
set -euo pipefail

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/tarloom

lacks() {
  echo "s3_server.sh: $*" >&2
  exit 3
}

fail() {
  echo "s3_server.sh: $*" >&2
  exit 1
}

# --- the packages -----------------------------------------------------------------------------------------------------

CEPH_PACKAGES=(radosgw ceph-mon ceph-osd ceph-base ceph-common)

unpack_ceph() { # sets CEPH, the folder with the unpacked packages
  [ -r /etc/os-release ] || lacks "no /etc/os-release; Ceph's packages are taken from Debian or Ubuntu"
  CEPH=$CACHE/ceph-$(. /etc/os-release && echo "${ID:-linux}-${VERSION_ID:-rolling}")
  [ -x /usr/bin/python3 ] || lacks "no /usr/bin/python3, which Ceph's command line runs on; install python3"
  [ ! -x "$CEPH/usr/bin/radosgw" ] || return 0
  command -v apt-get >/dev/null || lacks "no apt-get; Ceph's packages are taken from Debian or Ubuntu"
  command -v dpkg >/dev/null || lacks "no dpkg to unpack Ceph's packages with"
  mkdir -p "$CACHE"
  ( # appears whole or not at all, whoever else is unpacking
    new=$(mktemp -d "$CACHE/ceph-new-XXXXXX")
    trap 'rm -rf "$new"' EXIT
    download_packages "$new/debs"
    for package in "$new"/debs/*.deb; do dpkg -x "$package" "$new/root"; done
    mv -T "$new/root" "$CEPH" 2>/dev/null || [ -x "$CEPH/usr/bin/radosgw" ] || fail "cannot move $new/root to $CEPH"
  )
}

download_packages() { # $1: where to
  # apt keeps its lists and locks in a folder of ours, so that no root is needed and the system's stay as they are.
  local folder=$1 names
  mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial"
  local apt=(apt-get -qq -o Dir::State::lists="$folder/apt/lists" -o Dir::Cache="$folder/apt"
    -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 -o Acquire::http::Timeout=20)
  "${apt[@]}" update >&2 || lacks "apt-get update failed; Ceph's packages need a reachable package mirror"
  names=$("${apt[@]}" -s -o APT::Install-Recommends=0 install "${CEPH_PACKAGES[@]}" | sed -n 's/^Inst \([^ ]*\).*/\1/p') ||
    lacks "apt knows no radosgw, ceph-mon and ceph-osd that fit this system"
  # Its own programs in any case: apt would leave out those that this system has.
  # shellcheck disable=SC2046,SC2086
  (cd "$folder" && "${apt[@]}" download $(printf '%s\n' "${CEPH_PACKAGES[@]}" $names | sort -u) >&2) || lacks "the download of Ceph's packages failed"
}

use_ceph() {
  local library
  library=$(echo "$CEPH"/usr/lib/*-linux-gnu)
  export PATH=$CEPH/usr/bin:$PATH LD_LIBRARY_PATH=$library:$CEPH/lib/${library##*/}:$library/ceph
  export CEPH_CONF=$STATE/ceph.conf
  LIBRARY=$library
}

ceph_cli() {
  PYTHONPATH=$CEPH/usr/lib/python3/dist-packages /usr/bin/python3 "$CEPH/usr/bin/ceph" --connect-timeout 3 "$@"
}

# --- the cluster ------------------------------------------------------------------------------------------------------

write_config() {
  local monitor_port
  read -r PORT monitor_port < <(/usr/bin/python3 -c '
import socket
taken = [socket.socket() for _ in range(2)]
for s in taken: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in taken))')
  MONITOR=127.0.0.1:$monitor_port
  CLUSTER=$(cat /proc/sys/kernel/random/uuid)
  ACCESS_KEY=tarloom-$(head -c 6 /dev/urandom | od -An -tx1 | tr -d ' \n')
  SECRET_KEY=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
  cat >"$CEPH_CONF" <<CONF
[global]
fsid = $CLUSTER
mon_host = v2:$MONITOR
mon_initial_members = a
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1

# one copy of everything, in few placement groups: this is a server to test against, not one to keep data in
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_max_pg_per_osd = 1000
osd_objectstore = memstore
memstore_device_bytes = 4294967296

# it keeps next to nothing, so it need not refuse to start on a disk that is nearly full
mon_data_avail_crit = 0
mon_data_avail_warn = 0

# the monitor need not wait for others before it decides
paxos_propose_interval = 0.02
paxos_min_wait = 0.01

rgw_frontends = beast endpoint=127.0.0.1:$PORT tcp_nodelay=1
rgw_run_sync_thread = false
# for a machine of a few CPUs: by default 512 threads wake each other for every request
rgw_thread_pool_size = 8

# or else it keeps in memory what it would log at higher levels, for the day it crashes: a quarter of its CPU
debug_rgw = 0/0
debug_ms = 0/0
debug_osd = 0/0
debug_objecter = 0/0
debug_objclass = 0/0
debug_memstore = 0/0
debug_auth = 0/0

err_to_stderr = true
run_dir = $STATE/run
admin_socket = $STATE/run/\$name.asok
pid_file = $STATE/run/\$name.own-pid
log_file = $STATE/log/\$name.log
mon_cluster_log_file = $STATE/log/cluster.log
crash_dir = $STATE/log
mon_data = $STATE/mon
osd_data = $STATE/osd
rgw_data = $STATE/rgw
keyring = $STATE/keyring
plugin_dir = $LIBRARY/ceph
erasure_code_dir = $LIBRARY/ceph/erasure-code
osd_class_dir = $LIBRARY/rados-classes
CONF
}

make_keys() {
  local keyring=$STATE/keyring
  ceph-authtool -C "$keyring" --gen-key -n mon. --cap mon 'allow *'
  ceph-authtool "$keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
  ceph-authtool "$keyring" --gen-key -n client.rgw --cap mon 'allow rw' --cap osd 'allow rwx'
  ceph-authtool "$keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
}

background() { # NAME COMMAND...: its own session, so that a terminal's Ctrl-C leaves stopping to us
  local name=$1
  shift
  setsid "$@" >"$STATE/log/$name.out" 2>&1 </dev/null &
  echo $! >"$STATE/run/$name.pid"
}

wait_until() { # SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $end ] || fail "$what did not come up; see $STATE/log"
    none_has_ended || fail "$what has ended: $(tail -qn 1 "$STATE"/log/[0-9]-*.out)"
    sleep 0.1
  done
}

none_has_ended() { # of what runs in the background
  local file
  for file in "$STATE"/run/*.pid; do is_alive "$(cat "$file")" || return 1; done
}

osd_is_up() { ceph_cli osd stat 2>/dev/null | grep -q '1 up'; }
gateway_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; }

start_cluster() {
  local osd
  make_keys
  monmaptool --create --fsid "$CLUSTER" --addv a "[v2:$MONITOR]" "$STATE/monmap"
  ceph-mon --mkfs -i a --monmap "$STATE/monmap" --keyring "$STATE/keyring"
  background 3-monitor ceph-mon -f -i a
  osd=$(cat /proc/sys/kernel/random/uuid)
  # who asks before the monitor listens may get no answer at all; to ask twice does no harm
  wait_until 180 "the monitor" ceph_cli osd new "$osd"
  ceph-osd -i 0 --mkfs --osd-uuid "$osd"
  background 2-osd ceph-osd -f -i 0
  wait_until 180 "the OSD" osd_is_up
  radosgw-admin user create --uid=tarloom --display-name=tarloom --access-key="$ACCESS_KEY" --secret-key="$SECRET_KEY"
  background 1-gateway radosgw -f -n client.rgw
  wait_until 180 "the gateway" gateway_answers
}

start() { # sets everything up in $STATE; prints the environment of a client
  unpack_ceph
  mkdir -p "$STATE"/{mon,osd,rgw,run,log}
  touch "$STATE/.s3_server"
  use_ceph
  write_config
  start_cluster >"$STATE/log/start.out" 2>&1 & # as a condition it would run without "set -e"
  if ! wait $!; then
    tail -n 15 "$STATE/log/start.out" >&2
    stop
    fail "the server did not start"
  fi
  # pyarrow's S3 client sends checksums that this radosgw does not know, unless told to send only required ones.
  cat <<ENVIRONMENT
export AWS_ENDPOINT_URL=http://127.0.0.1:$PORT
export AWS_ACCESS_KEY_ID=$ACCESS_KEY
export AWS_SECRET_ACCESS_KEY=$SECRET_KEY
export AWS_REGION=us-east-1
export AWS_DEFAULT_REGION=us-east-1
export AWS_ALLOW_HTTP=true
export AWS_REQUEST_CHECKSUM_CALCULATION=when_required
# the server is up
ENVIRONMENT
}

# --- the end ----------------------------------------------------------------------------------------------------------

is_alive() { # a zombie counts as dead
  case $(ps -o stat= -p "$1" 2>/dev/null) in '' | Z*) return 1 ;; esac
}

has_ended() { # PID TENTHS: it, within so many tenths of a second
  for _ in $(seq "$2"); do
    is_alive "$1" || return 0
    sleep 0.1
  done
  return 1
}

stop() { # in the order of the pid files' names: the gateway first. What they hold is thrown away, so none may linger.
  local file pid
  for file in "$STATE"/run/*.pid; do
    [ -e "$file" ] || continue
    pid=$(cat "$file")
    kill "$pid" 2>/dev/null || true
    has_ended "$pid" 30 || { kill -9 "$pid" 2>/dev/null; has_ended "$pid" 600; } || true
    rm -f "$file"
  done
  rm -rf "$STATE"/{mon,osd,rgw,run,log,keyring,monmap,ceph.conf,.s3_server}
  rmdir "$STATE" 2>/dev/null || true # other people's files in it stay
}

any_lives() { # of those whose pid files are there
  local file
  for file in "$STATE"/run/*.pid; do
    [ ! -e "$file" ] || ! is_alive "$(cat "$file")" || return 0
  done
  return 1
}

clear_for_start() { # pid files of a server that runs would be lost, and with them the way to stop it
  [ -e "$STATE" ] || return 0
  [ -e "$STATE/.s3_server" ] || fail "$STATE is there, and is not a server's; give another folder"
  ! any_lives || fail "$STATE: a server runs there; stop it, or give another folder"
  stop # clears away what one left that was not stopped
}

case ${1:-} in
run)
  STATE=$(mktemp -d "${TMPDIR:-/tmp}/tarloom-s3-XXXXXX")
  trap stop EXIT
  trap 'exit 130' INT TERM HUP
  start
  cat >/dev/null
  ;;
start)
  STATE=$(realpath -m "${2:?start needs a folder for the state of the server}")/s3_server
  clear_for_start
  start
  ;;
stop)
  STATE=$(realpath -m "${2:?stop needs the folder given to start}")/s3_server
  [ -e "$STATE/.s3_server" ] || fail "${STATE%/*}: no server was started here"
  stop
  rmdir "${STATE%/*}" 2>/dev/null || true # if nothing else is in it
  ;;
*)
  sed -n '2,10s/^# \{0,1\}//p' "$0"
  exit 2
  ;;
esac
