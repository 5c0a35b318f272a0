#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# packaging/lint.sh BUILD | --fix: format, shell, units, manuals, kernel style,
# clang-tidy. Every finding is an error.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
mapfile -t cxx < <(git ls-files '*.cpp' '*.hpp')

if [ "${1:-}" = --fix ]; then
	clang-format -i "${cxx[@]}"
	exit
fi
build=$(realpath "${1:?usage: packaging/lint.sh BUILD | --fix}")
failures=0
step() {
	local name=$1 output
	shift
	if output=$("$@" 2>&1); then
		printf 'ok    %s\n' "$name"
	else
		printf 'FAIL  %s\n%s\n' "$name" "$output"
		failures=$((failures + 1))
	fi
}

spdx() {
	local missing
	missing=$(git ls-files '*.c' '*.h' '*.cpp' '*.hpp' '*.comp' '*.glsl' '*.py' '*.sh' '*.fbs' \
		'*.def' 'CMakeLists.txt' '*.cmake' Makefile | xargs grep -L 'SPDX-License-Identifier')
	[ -z "$missing" ] || { echo "no SPDX line: $missing"; return 1; }
}

manuals() {
	local page output status=0
	for page in $(git ls-files '*.[1-8]'); do
		output=$(mandoc -T lint -W warning "$page") || { echo "$output"; status=1; }
	done
	return $status
}

# systemd-analyze wants the program to exist where the unit says.
units() {
	local scratch status
	scratch=$(mktemp -d)
	for unit in "$build"/packaging/systemd/*.service "$build"/packaging/systemd/*.socket; do
		[ -f "$unit" ] || { echo "no unit in $build/packaging/systemd"; return 1; }
		sed -E "s|^(ExecStart)=[^ ]*/(m4[a-z]+)|\\1=$build/bin/\\2|; /^ExecStartPre=/d" "$unit" \
			>"$scratch/$(basename "$unit")"
	done
	SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$scratch"/*.service "$scratch"/*.socket
	status=$?
	rm -rf "$scratch"
	return $status
}

# clang-tidy reads what the compiler was given, less what only GCC knows.
tidy() {
	local units
	mapfile -t units < <(git ls-files 'firmware/*.cpp' 'daemon/*.cpp' 'libm4client/*.cpp')
	printf '%s\n' "${units[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p "$build" \
		--extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-ignored-optimization-argument
}

step spdx spdx
step clang-format clang-format --dry-run -Werror "${cxx[@]}"
mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
step shellcheck shellcheck -x "${scripts[@]}"
step manuals manuals
step units units
step kernel kmod/lint.sh
[ -n "${M4_LINT_FAST:-}" ] || step clang-tidy tidy
[ "$failures" -eq 0 ]
