#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/run.sh BUILD [FOLDER...]: run the tests of a build tree and close with
# "N passed, N failed, N skipped". FOLDER picks unit, gpu, e2e, abi or vm.
#
# A doctest binary (BUILD/tests/<folder>_*) counts its own cases, see
# support/main.cpp. A script (tests/<folder>/*_test.sh BUILD) is one case:
# exit 0 passed, 77 skipped, else failed. Folder vm is the one guest that takes
# a minute (vm/run.sh, kind stock), which counts its own cases as well.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
build=$(realpath "${1:?usage: tests/run.sh BUILD [FOLDER...]}")
shift
folders=("$@")
[ "${#folders[@]}" -eq 0 ] && folders=(unit gpu abi e2e vm)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
counts=$scratch/counts
log=$scratch/log
passed=0 failed=0 skipped=0
export M4_TEST_COUNTS=$counts
# Drivers keep compiled shaders here: tests of one build share them.
export MESA_SHADER_CACHE_DIR=${MESA_SHADER_CACHE_DIR:-$build/shader-cache}
mkdir -p "$MESA_SHADER_CACHE_DIR"

run_binary() {
	local name start status
	name=$(basename "$1")
	start=$SECONDS
	: >"$counts"
	"$1" >"$log" 2>&1
	status=$?
	grep '^skipped: ' "$log" | sed "s/^/  /"
	if [ -s "$counts" ]; then
		read -r p f s < <(awk '{ p += $1; f += $2; s += $3 } END { print p, f, s }' "$counts")
	else
		p=0 f=1 s=0 # died before it could count
	fi
	[ "$status" -ne 0 ] && [ "$f" -eq 0 ] && f=1
	if [ "$f" -ne 0 ]; then
		sed 's/^/    /' "$log" | tail -n 200
	fi
	printf '%-32s %4d passed %3d failed %3d skipped  %3ds\n' "$name" "$p" "$f" "$s" \
		"$((SECONDS - start))"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

run_script() {
	local name start status verdict
	name=$(basename "$(dirname "$1")")/$(basename "$1")
	start=$SECONDS
	"$1" "$build" >"$log" 2>&1
	status=$?
	case $status in
	0) verdict=passed passed=$((passed + 1)) ;;
	77)
		verdict=skipped skipped=$((skipped + 1))
		sed 's/^/    /' "$log" | tail -n 3
		;;
	*)
		verdict=failed failed=$((failed + 1))
		sed 's/^/    /' "$log" | tail -n 100
		;;
	esac
	printf '%-32s %-36s %3ds\n' "$name" "$verdict" "$((SECONDS - start))"
}

run_guest() {
	local start tool p f s
	start=$SECONDS
	for tool in qemu-system-x86_64 mmdebstrap mke2fs openssl depmod busybox; do
		if ! command -v "$tool" >/dev/null; then
			echo "  skipped: vm: no $tool on this machine"
			skipped=$((skipped + 1))
			return
		fi
	done
	tests/vm/run.sh "$build" --kind stock >"$log" 2>&1
	# the closing line; whatever ended without one has failed
	read -r p f s < <(tail -n 1 "$log" |
		sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p') || p=0 f=1 s=0
	grep -E '^(stock )?skip ' "$log" | sed 's/^/  /'
	[ "$f" -eq 0 ] || tail -n 100 "$log" | sed 's/^/    /'
	printf '%-32s %4d passed %3d failed %3d skipped  %3ds\n' "vm (stock kernel)" "$p" "$f" "$s" \
		"$((SECONDS - start))"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

for folder in "${folders[@]}"; do
	[ "$folder" != vm ] || run_guest
	for binary in "$build"/tests/"${folder}"_*; do
		[ -f "$binary" ] && [ -x "$binary" ] && run_binary "$binary"
	done
	for script in tests/"$folder"/*_test.sh; do
		[ -x "$script" ] && run_script "$script"
	done
done

if [ $((passed + failed + skipped)) -eq 0 ]; then
	echo "no test was found in $build: build with M4_TESTS=ON" >&2
	exit 1
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
