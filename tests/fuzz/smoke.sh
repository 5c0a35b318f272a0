#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/fuzz/smoke.sh BUILD [RUNS]: build the fuzzers by clang and run the one of
# the manifest RUNS times (default 1,000,000), the slower ones fewer times, under ASan
# and UBSan. Any finding fails, and its input stays in BUILD/findings. A corpus stays in
# BUILD/NAME/corpus, so that the next run goes on from there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: smoke.sh BUILD [RUNS]}"
build=$(cd "$1" && pwd)
runs=${2:-1000000}

clang=$(command -v clang-14 || command -v clang) || {
	echo "smoke.sh: clang is not installed (make deps-fuzz)" >&2
	exit 1
}
clangxx=$(command -v clang++-14 || command -v clang++)
cmake -S "$here" -B "$build" -G Ninja -DCMAKE_C_COMPILER="$clang" \
	-DCMAKE_CXX_COMPILER="$clangxx" >"$build/configure.log" || {
	cat "$build/configure.log" >&2
	exit 1
}
cmake --build "$build" --parallel "${JOBS:-$(nproc)}" >"$build/build.log" || {
	cat "$build/build.log" >&2
	exit 1
}
mkdir -p "$build/findings"

# fuzz NAME LENGTH TIMES: inputs of at most LENGTH bytes.
fuzz() {
	local name=$1 at=$build/$1 start=$SECONDS status=0
	"$build/make_seeds" "$name" "$at/seeds" >/dev/null
	mkdir -p "$at/corpus"
	"$build/${name}_fuzz" -runs="$3" -max_len="$2" -timeout=10 -rss_limit_mb=2048 \
		-print_final_stats=1 -artifact_prefix="$build/findings/$name-" \
		"$at/corpus" "$at/seeds" >"$at/fuzz.log" 2>&1 || status=$?
	if [ "$status" -ne 0 ]; then
		tail -n 60 "$at/fuzz.log" >&2
		echo "${name}_fuzz: a finding, see $build/findings" >&2
		exit 1
	fi
	stat() { sed -n "s/^stat::$1: *//p" "$at/fuzz.log"; }
	echo "${name}_fuzz: $(stat number_of_executed_units) executions in $((SECONDS - start)) s" \
		"($(stat average_exec_per_sec) a second), $(find "$at/corpus" -type f | wc -l) inputs kept," \
		"no finding"
}
fuzz manifest 32768 "$runs"
fuzz media 4096 $((runs / 4))
fuzz adapter 8192 $((runs / 2))
fuzz importer 65536 $((runs / 5)) # each is a file on disk
fuzz decoder 8192 $((runs / 4))
fuzz request 4096 "$runs"
