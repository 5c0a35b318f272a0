#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/bench/bench.sh BUILD: the peers, where they can be had, then run.py.
#
# BENCH_ROWS=pattern     rows to measure (a shell pattern), default all
# BENCH_REPEAT=n         samples a row, default 5
# BENCH_FULL=1           no limits on time: over an hour
# BENCH_NO_PEER=1        ours alone
# M4_TEST_DEVICE=name    Vulkan device of m4d
# M4_CACHE_DIR=folder    where the peers are kept, default ~/.cache/m4
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(realpath "${1:?usage: tests/bench/bench.sh BUILD}")
version=3.22.1
onnx_version=1.30.0
cache=${M4_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/m4}/bench

# install FOLDER PACKAGE...: beside its place first, as a broken download is no peer.
# Scripts of packages are not run: onnxruntime-node's would fetch CUDA.
install() {
	local folder=$1 partial=$1.partial
	shift
	[ ! -e "$folder/installed" ] || return 0
	packaging/install-deps.sh bench || return 1
	rm -rf "$partial" "$folder"
	mkdir -p "$partial"
	echo "installing ${!#} into $folder" >&2
	npm i --omit=optional --no-audit --no-fund --loglevel=error --prefix "$partial" "$@" >&2 ||
		return 1
	touch "$partial/installed"
	mv "$partial" "$folder"
}

# peer OPTION FOLDER PACKAGE...
peer() {
	local option=$1
	shift
	if install "$@"; then
		arguments+=("$option" "$1")
	else
		echo "bench: ${!#} could not be installed: its columns are n/a" >&2
	fi
}

arguments=(--build "$build" --rows "${BENCH_ROWS:-*}" --repeat "${BENCH_REPEAT:-5}")
[ -z "${BENCH_FULL:-}" ] || arguments+=(--full)
[ -z "${M4_TEST_DEVICE:-}" ] || arguments+=(--device "$M4_TEST_DEVICE")
if [ -n "${BENCH_NO_PEER:-}" ]; then
	echo "bench: BENCH_NO_PEER is set: ours alone" >&2
elif [ "$(uname -m)" != x86_64 ]; then
	echo "bench: the peers are pinned for x86-64 only: ours alone" >&2
else
	peer --peer "$cache/node-llama-cpp-$version" \
		"@node-llama-cpp/linux-x64-vulkan@$version" "@node-llama-cpp/linux-x64@$version" \
		"node-llama-cpp@$version"
	peer --onnx-peer "$cache/onnxruntime-node-$onnx_version" --ignore-scripts \
		"onnxruntime-node@$onnx_version"
fi
exec python3 tests/bench/run.py "${arguments[@]}"
