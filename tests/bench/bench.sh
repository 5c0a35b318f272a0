#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/bench/bench.sh BUILD: the peer, where it can be had, then run.py.
#
# BENCH_ROWS=pattern     rows to measure (a shell pattern), default all
# BENCH_REPEAT=n         samples a row, default 5
# BENCH_FULL=1           no limits on time: over an hour
# BENCH_NO_PEER=1        ours alone
# M4_TEST_DEVICE=name    Vulkan device of m4d
# M4_CACHE_DIR=folder    where the peer is kept, default ~/.cache/m4
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(realpath "${1:?usage: tests/bench/bench.sh BUILD}")
version=3.22.1
peer=${M4_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/m4}/bench/node-llama-cpp-$version

# Beside its place first: a broken download is no peer.
install_peer() {
	[ ! -e "$peer/installed" ] || return 0
	packaging/install-deps.sh bench || return 1
	local partial=$peer.partial
	rm -rf "$partial" "$peer"
	mkdir -p "$partial"
	echo "installing node-llama-cpp $version into $peer" >&2
	npm i --omit=optional --no-audit --no-fund --loglevel=error --prefix "$partial" \
		"node-llama-cpp@$version" "@node-llama-cpp/linux-x64-vulkan@$version" \
		"@node-llama-cpp/linux-x64@$version" >&2 || return 1
	touch "$partial/installed"
	mv "$partial" "$peer"
}

arguments=(--build "$build" --rows "${BENCH_ROWS:-*}" --repeat "${BENCH_REPEAT:-5}")
[ -z "${BENCH_FULL:-}" ] || arguments+=(--full)
[ -z "${M4_TEST_DEVICE:-}" ] || arguments+=(--device "$M4_TEST_DEVICE")
if [ -n "${BENCH_NO_PEER:-}" ]; then
	echo "bench: BENCH_NO_PEER is set: ours alone" >&2
elif [ "$(uname -m)" != x86_64 ]; then
	echo "bench: the peer is pinned for x86-64 only: ours alone" >&2
elif install_peer; then
	arguments+=(--peer "$peer")
else
	echo "bench: the peer could not be installed: ours alone" >&2
fi
exec python3 tests/bench/run.py "${arguments[@]}"
