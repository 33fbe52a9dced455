#!/usr/bin/env bash
# Usage: scripts/build-release.sh [--fast] [VERSION] [TARGET…]
# Build the artifacts of a release into dist/: an archive, its SHA-256 and its list of parts (CycloneDX) for each target.
#   VERSION  has to be the version of the sources, which is the default
#   TARGET   x86_64-gnu, x86_64-musl, aarch64-gnu, aarch64-musl, or a full name; without one, all of them
#   --fast   for tests, into dist/quick: compressed less, which takes a minute less
# Needs a Debian system on x86_64. The first build takes most of an hour, a build of the same parts seconds.
# Exit status 3 when a build tool is missing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
help_asked "$@"
ensure_venv
ensure_packages strip:binutils aarch64-linux-gnu-strip:binutils-aarch64-linux-gnu patchelf:patchelf ccache:ccache gcc:gcc \
  make:make patch:patch autoreconf:autoconf aclocal:automake libtoolize:libtool tclsh:tcl perl:perl xz:xz-utils || exit 3
[ -e /usr/share/aclocal/ax_gcc_archflag.m4 ] || apt_install autoconf-archive libltdl-dev || exit 3
exec "$VENV/bin/python" -m build.release "$@"
