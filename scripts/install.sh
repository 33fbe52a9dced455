#!/bin/sh
# Install the Syntra node agent as a service of this machine, upgrade it, or remove it.
#
#   curl -fsSL https://releases.syntra.dev/agent/install.sh | sh -s -- --endpoint=wss://… --token=…
#
# Options, each as --name=value or --name value, and the environment variable for the same:
#   --endpoint URL      SYNTRA_ENDPOINT        the control plane; without it the agent runs alone
#   --token-file FILE   SYNTRA_TOKEN_FILE      file that holds the token; - is standard input
#   --token TOKEN       SYNTRA_TOKEN           the token; other users can read arguments while this runs
#   --server-id ID      SYNTRA_SERVER_ID       this server's id at the control plane (default: generated)
#   --version VERSION   SYNTRA_VERSION         default: the newest of the channel
#   --channel CHANNEL   SYNTRA_CHANNEL         stable (default) or beta
#   --base-url URL      SYNTRA_BASE_URL        a mirror of the releases; http:// needs openssl 3 on this machine
#   --root-keys FILE    SYNTRA_ROOT_KEYS_FILE  the mirror's root keys, one in base64 on each line
#   --no-start          SYNTRA_NO_START=1      install and enable only; the agent starts at the next boot
#   --with-docker       SYNTRA_WITH_DOCKER=1   install Docker from the distribution if no engine is here; stays after a failure
#   --with-proxy        SYNTRA_WITH_PROXY=1    start the proxy for services with domains at the end
#   --dry-run           SYNTRA_DRY_RUN=1       print what would be done; downloads to a temporary directory only
#   --uninstall                                remove the agent; services keep running. Further options as in
#                                              `syntra-agent uninstall --help` (--purge, --stop-services)
#
# Everything is downloaded to a private temporary directory and verified before it runs: keys.json against the root
# keys below, manifest.json against keys.json, the archive against manifest.json. Then the agent's own `install` shows
# and does the rest; a failure leaves the machine as it was. A second run upgrades, or says that nothing is to do.
set -eu
umask 077

# Base64 of the public root keys, as in syntra/update/root_key.py.
ROOT_KEYS=""
DEFAULT_BASE_URL="https://releases.syntra.dev/agent"
INSTALLED=/opt/syntra-agent/current/syntra-agent
ARCHIVE_MAX=268435456

say() { printf '%s\n' "$*"; }
die() {
  printf 'cannot install the agent: %s\n' "$*" >&2
  exit 1
}

# ---- arguments ----------------------------------------------------------------------------------------------------

usage() {
  cat <<'USAGE'
usage: install.sh [--endpoint URL] [--token-file FILE | --token TOKEN] [--server-id ID] [--version VERSION]
                  [--channel stable|beta] [--base-url URL] [--root-keys FILE] [--no-start] [--with-docker]
                  [--with-proxy] [--dry-run]
       install.sh --uninstall [--purge] [--stop-services] [--dry-run]
USAGE
}

read_arguments() {
  endpoint=${SYNTRA_ENDPOINT:-} token=${SYNTRA_TOKEN:-} token_file=${SYNTRA_TOKEN_FILE:-}
  server_id=${SYNTRA_SERVER_ID:-} version=${SYNTRA_VERSION:-} channel=${SYNTRA_CHANNEL:-stable}
  base_url=${SYNTRA_BASE_URL:-} root_keys_file=${SYNTRA_ROOT_KEYS_FILE:-}
  no_start=${SYNTRA_NO_START:-} with_docker=${SYNTRA_WITH_DOCKER:-} with_proxy=${SYNTRA_WITH_PROXY:-}
  dry_run=${SYNTRA_DRY_RUN:-} uninstall='' purge='' stop_services=''
  # The agent would take them for its own settings; and no program started here needs the token.
  unset SYNTRA_ENDPOINT SYNTRA_TOKEN SYNTRA_TOKEN_FILE SYNTRA_SERVER_ID SYNTRA_VERSION SYNTRA_CHANNEL SYNTRA_BASE_URL \
    SYNTRA_ROOT_KEYS_FILE SYNTRA_NO_START SYNTRA_WITH_DOCKER SYNTRA_WITH_PROXY SYNTRA_DRY_RUN
  while [ $# -gt 0 ]; do
    name=${1%%=*} value='' shifts=1
    case $name in
      --endpoint | --token | --token-file | --server-id | --version | --channel | --base-url | --root-keys)
        if [ "$name" != "$1" ]; then
          value=${1#*=}
        elif [ $# -gt 1 ]; then
          value=$2 shifts=2
        fi
        # Not the argument itself: it may hold a secret.
        [ -n "$value" ] || die "option $name has no value; give $name=VALUE" ;;
    esac
    case $name in
      --endpoint) endpoint=$value ;;
      --token) token=$value token_file='' ;;
      --token-file) token_file=$value token='' ;;
      --server-id) server_id=$value ;;
      --version) version=$value ;;
      --channel) channel=$value ;;
      --base-url) base_url=$value ;;
      --root-keys) root_keys_file=$value ;;
      --no-start) no_start=1 ;;
      --with-docker) with_docker=1 ;;
      --with-proxy) with_proxy=1 ;;
      --dry-run) dry_run=1 ;;
      --uninstall) uninstall=1 ;;
      --purge) purge=1 ;;
      --stop-services) stop_services=1 ;;
      -h | --help) usage; exit 0 ;;
      *) usage >&2; die "unknown option $name; see the list above" ;;
    esac
    shift "$shifts"
  done
  case $channel in stable | beta) ;; *) die "channel is neither stable nor beta; give --channel=stable" ;; esac
  case $version in *[!0-9a-z.-]* | .* | -*) die "the version has other characters than 1.2.3; give --version=1.2.3" ;; esac
  case ${base_url:-https://} in
    https://* | http://*) ;;
    *) die "the base URL starts with neither https:// nor http://; correct --base-url" ;;
  esac
}

# ---- the machine --------------------------------------------------------------------------------------------------

# os_release NAME: a value of /etc/os-release, without quotes. The file is data here; it is not run.
os_release() {
  sed -n "s/^$1=//p" /etc/os-release 2>/dev/null | head -n 1 | tr -d "\"'"
}

# The family whose package manager and names apply: debian, fedora, alpine or unknown.
find_family() {
  family=unknown
  for id in $(os_release ID) $(os_release ID_LIKE); do
    case $id in
      debian | ubuntu) family=debian ;;
      fedora | rhel | centos) family=fedora ;;
      alpine) family=alpine ;;
      *) continue ;;
    esac
    break
  done
  distribution=$(os_release PRETTY_NAME)
}

find_platform() {
  [ "$(uname -s)" = Linux ] || die "this is not Linux; install the agent on the server"
  case $(uname -m) in
    x86_64 | amd64) arch=x86_64 ;;
    aarch64 | arm64) arch=aarch64 ;;
    *) die "there is no release for $(uname -m); use a server with x86_64 or aarch64" ;;
  esac
  if have getconf && [ "$(getconf LONG_BIT 2>/dev/null || echo 64)" = 32 ]; then
    die "this is a 32-bit system on a 64-bit kernel; use a 64-bit system"
  fi
  # The musl build is static and runs everywhere; the other one follows the machine's name service configuration.
  if have getconf && getconf GNU_LIBC_VERSION >/dev/null 2>&1; then libcs="gnu musl"; else libcs="musl"; fi
  if [ -d /run/systemd/system ]; then init=systemd; elif [ -d /run/openrc ]; then init=OpenRC; else init="no service manager"; fi
}

have() { command -v "$1" >/dev/null 2>&1; }

require_tools() {
  have curl || have wget || die "neither curl nor wget is here; install one of them"
  for tool in tar gzip sha256sum sed tr head sort wc mktemp base64; do
    have "$tool" || die "$tool is missing; install it"
  done
}

# A private directory that programs may run from: /tmp is often mounted noexec.
make_workspace() {
  for parent in "${TMPDIR:-/tmp}" /var/tmp /opt; do
    work=$(mktemp -d "$parent/syntra-install.XXXXXX" 2>/dev/null) || continue
    printf '#!/bin/sh\nexit 0\n' >"$work/probe"
    chmod 700 "$work/probe"
    "$work/probe" 2>/dev/null && return 0
    rm -rf "$work"
  done
  work=
  die "no directory allows programs to run; set TMPDIR to one that is not mounted noexec"
}

clean_up() {
  status=$?
  trap - EXIT
  [ -z "${work:-}" ] || rm -rf "$work"
  exit "$status"
}

# ---- download and verify ------------------------------------------------------------------------------------------

# fetch PATH FILE BYTES: download below the base URL; at most BYTES.
fetch() {
  url=$base_url/$1
  if have curl; then
    # --proto also holds for redirects: https never continues as http.
    curl -fsSL --proto "$protocols" --tlsv1.2 --retry 3 --connect-timeout 20 --max-time 900 --max-redirs 5 \
      --max-filesize "$3" -o "$2" "$url" || die "cannot download $url; check the network and --base-url"
  else
    wget -q -T 60 -O "$2" "$url" || die "cannot download $url; check the network and --base-url"
  fi
  [ "$(wc -c <"$2")" -le "$3" ] || die "$url is larger than $3 bytes; do not use that release server"
}

# openssl before 3 cannot verify Ed25519 over a file.
can_verify() { have openssl && openssl pkeyutl -help 2>&1 | grep -q -e -rawin; }

# verify FILE KEY…: FILE.sig has a valid line by one of the keys (base64). A line is the key's id and the signature.
verify() {
  signed=$1
  shift
  for key in "$@"; do
    printf '%s' "$key" | base64 -d >"$work/key.raw" 2>/dev/null || die "a root key is not base64; check --root-keys"
    id=$(sha256sum "$work/key.raw" | cut -c1-16)
    # The key as SubjectPublicKeyInfo (RFC 8410 section 4): 12 fixed bytes before the 32 of the key.
    { printf '\060\052\060\005\006\003\053\145\160\003\041\000' && cat "$work/key.raw"; } >"$work/key.der"
    sed -n "s/^$id //p" "$signed.sig" | head -n 1 | base64 -d >"$work/signature" 2>/dev/null || continue
    if [ -s "$work/signature" ] && openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/key.der" -rawin \
      -in "$signed" -sigfile "$work/signature" >/dev/null 2>&1; then
      return 0
    fi
  done
  return 1
}

# objects FILE: the JSON objects of a file that scripts/release-sign wrote, one on each line; the outermost is the first.
objects() {
  tr -d '\n' <"$1" | tr '{' '\n'
  # `read` skips a last line without an end.
  echo
}
# value NAME: the text or number of that name in each line of standard input.
value() { sed -n "s/.*\"$1\"[[:space:]]*:[[:space:]]*\"\{0,1\}\([^\",}]*\).*/\1/p"; }

# is_over TIME: whether an RFC 3339 time in UTC has passed.
is_over() {
  now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  [ "$(printf '%s\n%s\n' "$now" "$1" | LC_ALL=C sort | head -n 1)" != "$now" ]
}

# The release keys that may sign now, from keys.json.
release_keys() {
  revoked=$(tr -d '\n' <"$work/keys.json" | sed -n 's/.*"revoked"[[:space:]]*:[[:space:]]*\[\([^]]*\)\].*/\1/p')
  objects "$work/keys.json" | while read -r object; do
    key=$(printf '%s\n' "$object" | value public_key)
    expires=$(printf '%s\n' "$object" | value expires)
    [ -n "$key" ] || continue
    id=$(printf '%s' "$key" | base64 -d 2>/dev/null | sha256sum | cut -c1-16)
    case $revoked in *"$id"*) continue ;; esac
    is_over "$expires" || printf '%s\n' "$key"
  done
}

read_root_keys() {
  if [ -n "$root_keys_file" ]; then
    [ -r "$root_keys_file" ] || die "cannot read the root keys in $root_keys_file; check --root-keys"
    roots=$(sed '/^#/d;/^[[:space:]]*$/d' "$root_keys_file")
  else
    roots=$ROOT_KEYS
  fi
  [ -n "$roots" ] || die "this installer has no release keys; use the one of a release, or give --root-keys for a mirror"
}

# Download and verify what says which archive is the right one.
fetch_manifest() {
  where=${version:-$channel}
  for file in keys.json keys.json.sig; do fetch "$file" "$work/$file" 65536; done
  for file in manifest.json manifest.json.sig; do fetch "$where/$file" "$work/$file" 262144; done
  if can_verify; then
    # shellcheck disable=SC2086  # one word for each key
    verify "$work/keys.json" $roots || die "keys.json is not signed by a root key; do not use that release server"
    is_over "$(objects "$work/keys.json" | value expires | head -n 1)" &&
      die "the list of release keys has expired; check the clock of this machine"
    # shellcheck disable=SC2046  # one word for each key
    verify "$work/manifest.json" $(release_keys) ||
      die "the manifest is not signed by a release key; do not use that release server"
  else
    case $base_url in
      https://*) say "openssl 3 is not here: TLS and SHA-256 protect the download; the agent checks its signature itself" ;;
      *) die "openssl 3 is missing, and without it only https:// is safe; install openssl or use https://" ;;
    esac
  fi
  head_line=$(objects "$work/manifest.json" | grep '"product"' | head -n 1)
  [ "$(printf '%s\n' "$head_line" | value product)" = syntra-agent ] || die "the manifest is of another product"
  is_over "$(printf '%s\n' "$head_line" | value expires)" &&
    die "the manifest has expired; check the clock of this machine, then try again later"
  found=$(printf '%s\n' "$head_line" | value version)
  [ -z "$version" ] || [ "$version" = "$found" ] || die "the server answers with version $found; do not use it"
  [ -n "$version" ] || [ "$(printf '%s\n' "$head_line" | value channel)" = "$channel" ] ||
    die "the manifest is of another channel; do not use that release server"
  version=$found
}

# fetch_program LIBC: download, verify and unpack; false when there is none or it does not run here.
fetch_program() {
  entry=$(objects "$work/manifest.json" | grep "\"$arch\"" | grep "\"libc\"[[:space:]]*:[[:space:]]*\"$1\"" | head -n 1)
  [ -n "$entry" ] || return 1
  archive=syntra-agent-$version-$arch-unknown-linux-$1.tar.gz
  size=$(printf '%s\n' "$entry" | value size)
  sum=$(printf '%s\n' "$entry" | value sha256)
  case $size in '' | *[!0-9]*) die "the manifest has no size for $archive; do not use that release server" ;; esac
  [ "$size" -le "$ARCHIVE_MAX" ] || die "$archive is larger than any release; do not use that release server"
  say "downloading $archive ($((size / 1048576)) MiB)"
  fetch "$version/$archive" "$work/$archive" "$size"
  [ "$(wc -c <"$work/$archive")" -eq "$size" ] || die "$archive has another size than the manifest says; try again"
  [ "$(sha256sum "$work/$archive" | cut -d ' ' -f 1)" = "$sum" ] ||
    die "$archive has another SHA-256 than the manifest says; try again, and do not use that server if it repeats"
  [ "$(tar -tzf "$work/$archive")" = syntra-agent ] || die "$archive holds more than the agent; do not use that server"
  # To standard output: no path of the archive, no mode and no link of it reaches the disk.
  tar -xzOf "$work/$archive" syntra-agent >"$work/syntra-agent" || die "cannot unpack $archive; free space in $work"
  chmod 700 "$work/syntra-agent"
  XDG_CACHE_HOME="$work/cache" "$work/syntra-agent" version >/dev/null 2>&1
}

# Sets `program`: the installed one when it is the wanted version, else the downloaded one.
obtain_program() {
  if [ -x "$INSTALLED" ] && [ "$("$INSTALLED" --version 2>/dev/null)" = "syntra-agent $version" ]; then
    program=$INSTALLED release=
    return 0
  fi
  program=$work/syntra-agent
  for libc in $libcs; do
    if fetch_program "$libc"; then release=$work; return 0; fi
  done
  die "no release $version runs on this machine ($arch, tried $libcs); see the supported systems in docs/install.md"
}

# ---- Docker -------------------------------------------------------------------------------------------------------

install_docker() {
  if [ -S /var/run/docker.sock ]; then
    say "an engine is here already: /var/run/docker.sock"
    return 0
  fi
  case $family in
    debian) set -- apt-get install -y --no-install-recommends docker.io ;;
    fedora) set -- dnf install -y moby-engine ;;
    alpine) set -- apk add docker ;;
    *) die "the package of Docker is not known for ${distribution:-this system}; install it (docs.docker.com) and try again" ;;
  esac
  say "installing Docker: $*"
  [ -z "$dry_run" ] || return 0
  [ "$family" != debian ] || apt-get update >/dev/null || die "apt-get update failed; correct this and try again"
  DEBIAN_FRONTEND=noninteractive "$@" >/dev/null || die "\`$*\` failed; install Docker yourself and try again"
  case $init in
    systemd) systemctl enable --now docker >/dev/null 2>&1 || die "Docker does not start; see journalctl -u docker" ;;
    OpenRC) { rc-update add docker default && rc-service docker start; } >/dev/null || die "Docker does not start" ;;
    *) say "start Docker yourself: there is $init" ;;
  esac
}

# ---- what is asked for --------------------------------------------------------------------------------------------

remove_agent() {
  if [ ! -x "$INSTALLED" ]; then
    say "nothing to do: the agent is not installed"
    return 0
  fi
  # A copy: the removal deletes the installed file, and the directory that it would unpack to.
  cp "$INSTALLED" "$work/syntra-agent"
  XDG_CACHE_HOME="$work/cache" "$work/syntra-agent" uninstall ${purge:+--purge} ${stop_services:+--stop-services} \
    ${dry_run:+--dry-run}
}

install_agent() {
  if [ -n "$token_file" ]; then
    if [ "$token_file" = - ]; then cat >"$work/token"; else
      cat "$token_file" >"$work/token" || die "cannot read the token in $token_file; check --token-file"
    fi
  elif [ -n "$token" ]; then
    # A built-in command: the token is in no process list.
    printf '%s\n' "$token" >"$work/token"
    token=
  fi
  read_root_keys
  fetch_manifest
  obtain_program
  [ -z "$with_docker" ] || install_docker
  set -- install ${release:+--release "$work"} ${dry_run:+--dry-run} ${no_start:+--no-start}
  [ ! -e "$work/token" ] || set -- "$@" --token-file "$work/token"
  [ -z "$endpoint" ] || set -- "$@" --endpoint "$endpoint"
  [ -z "$server_id" ] || set -- "$@" --server-id "$server_id"
  [ "$channel" = stable ] || set -- "$@" --channel "$channel"
  [ -z "$mirror" ] || set -- "$@" --base-url "$mirror"
  [ -z "$root_keys_file" ] || set -- "$@" --root-keys "$root_keys_file"
  XDG_CACHE_HOME="$work/cache" "$program" "$@" || return $?
  if [ -n "$with_proxy" ] && [ -z "$dry_run$no_start" ]; then
    XDG_CACHE_HOME="$work/cache" "$program" proxy up
  fi
}

main() {
  read_arguments "$@"
  find_family
  find_platform
  say "this machine: ${distribution:-unknown system} ($family), $arch, $init"
  [ "$(id -u)" = 0 ] || die "it needs root; run it with sudo, or as root"
  require_tools
  mirror=$base_url
  base_url=${base_url:-$DEFAULT_BASE_URL}
  base_url=${base_url%/}
  case $base_url in https://*) protocols='=https' ;; *) protocols='=http,https' ;; esac
  work=
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  make_workspace
  if [ -n "$uninstall" ]; then remove_agent; else install_agent; fi
}

main "$@"
