# Shared by the scripts: Python, virtual environment, Debian packages, engine. Sourced, never run.
# Sets ROOT and VENV and changes to ROOT. Prints one line with what is missing and what to do about it.
# Outside the checkout it touches Debian packages and the engine daemon only, and those only as root.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
ENGINE_SOCKET=/var/run/docker.sock
cd "$ROOT" || exit 1
# Wait for a slow package index; retry an interrupted download.
export PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-120} PIP_RETRIES=${PIP_RETRIES:-8} PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }
# help_asked "$@": print the comment at the top of the script and exit 0 when the first argument is -h or --help.
help_asked() {
  case ${1:-} in -h | --help) ;; *) return 0 ;; esac
  sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p}' "$0"
  exit 0
}
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE…: true when they are installed afterwards. The package lists are refreshed at most once per run.
APT_UPDATED=
apt_install() {
  local log
  may_install || return 1
  log=$(mktemp)
  say "installing $* (apt)"
  if ! apt_quietly "$log" install "$@"; then
    [ -n "$APT_UPDATED" ] || apt_quietly "$log" update || true
    APT_UPDATED=yes
    apt_quietly "$log" install "$@" || { tail -n 5 "$log" >&2; rm -f "$log"; return 1; }
  fi
  rm -f "$log"
}
apt_quietly() {
  local log=$1; shift
  DEBIAN_FRONTEND=noninteractive apt-get -y -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 --no-install-recommends "$@" \
    >>"$log" 2>&1 </dev/null
}

# ensure_packages PROGRAM:PACKAGE…: installs the packages of missing programs; false when one is still missing.
ensure_packages() {
  local pair wanted=() missing=()
  for pair in "$@"; do command -v "${pair%%:*}" >/dev/null || wanted+=("${pair##*:}"); done
  [ ${#wanted[@]} -eq 0 ] && return 0
  apt_install "${wanted[@]}" || true
  hash -r
  for pair in "$@"; do command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}"); done
  [ ${#missing[@]} -eq 0 ] && return 0
  say "missing: ${missing[*]}; install with: apt-get install ${missing[*]}"
  return 1
}

# ensure_compiler: gcc with the C library's headers and its static half, for programs that tests build.
ensure_compiler() {
  ensure_packages gcc:gcc || return 1
  [ -e /usr/include/stdio.h ] || apt_install libc6-dev || { say "missing: the C library's headers; install libc6-dev"; return 1; }
}

# fits PYTHON: 3.11 or newer and able to make virtual environments (Debian splits ensurepip off).
fits() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
find_python() {
  local name
  for name in python3.13 python3.12 python3.11 python3; do fits "$name" && { command -v "$name"; return 0; }; done
  return 1
}

# ensure_venv: .venv with the pinned requirements and the checkout itself; a fraction of a second when it is current.
ensure_venv() {
  local python stamp
  if ! { [ -x "$VENV/bin/python" ] && fits "$VENV/bin/python"; }; then
    python=$(find_python) || { apt_install python3 python3-venv && hash -r && python=$(find_python); } ||
      die "cannot make .venv: no Python 3.11 or newer with venv; install python3 and python3-venv"
    say "making .venv with $("$python" -V)"
    "$python" -m venv --clear "$VENV"
  fi
  stamp=$(cat requirements/run.txt requirements/dev.txt pyproject.toml | sha256sum | cut -c1-32)
  [ "$(cat "$VENV/.installed" 2>/dev/null)" = "$stamp" ] && return 0
  # Concurrent runs install only once.
  (
    flock 9
    [ "$(cat "$VENV/.installed" 2>/dev/null)" = "$stamp" ] && exit 0
    say "installing the pinned packages into .venv (minutes the first time when the index is slow)"
    "$VENV/bin/python" -m pip install -q --prefer-binary -r requirements/dev.txt &&
      PYTHONWARNINGS=ignore "$VENV/bin/python" -m pip install -q --no-deps --no-build-isolation -e . &&
      printf '%s' "$stamp" >"$VENV/.installed"
  ) 9>"$VENV/.lock" || die "cannot install the pinned packages: pip failed, see above; run it again when the index answers"
}

# ensure_python_headers: Python.h for the interpreter behind .venv.
ensure_python_headers() {
  local header
  header=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
  [ -e "$header" ] || apt_install "$("$VENV/bin/python" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')" ||
    { say "missing: $header; install the development package of this Python (python3-dev)"; return 1; }
}

engine_answers() {
  "${1:-$VENV/bin/python}" - "$ENGINE_SOCKET" <<'PYTHON' 2>/dev/null
import socket, sys
with socket.socket(socket.AF_UNIX) as peer:
    peer.settimeout(5)
    peer.connect(sys.argv[1])
    peer.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
    sys.exit(b" 200 " not in peer.recv(64))
PYTHON
}

# ensure_engine: a Docker engine that answers, and the programs the engine tests use; false with one line when it may not.
ensure_engine() {
  local log tries=0
  ensure_packages busybox:busybox-static docker-registry:docker-registry || return 1
  engine_answers && return 0
  if [ "$(id -u)" != 0 ]; then
    say "missing: a Docker engine at $ENGINE_SOCKET that this user may use; start it, or run as root"
    return 1
  fi
  ensure_packages dockerd:docker.io iptables:iptables || return 1
  if ! engine_answers; then
    log=$(mktemp -t dockerd.XXXXXX)
    say "starting dockerd (log: $log)"
    if [ -d /run/systemd/system ]; then
      systemctl start docker >"$log" 2>&1 || true
    else
      setsid nohup dockerd >"$log" 2>&1 </dev/null 9>&- &
    fi
    until engine_answers; do
      tries=$((tries + 1))
      [ "$tries" -lt 60 ] || { tail -n 5 "$log" >&2; say "missing: a Docker engine; dockerd did not answer within a minute"; return 1; }
      sleep 1
    done
  fi
}

# ensure_podman: the programs of the tests on Podman, which start a service of their own; false when one is missing.
ensure_podman() {
  ensure_packages podman:podman runc:runc busybox:busybox-static || return 1
  [ -x /usr/lib/podman/netavark ] || apt_install netavark aardvark-dns || { say "missing: netavark; install it"; return 1; }
}
