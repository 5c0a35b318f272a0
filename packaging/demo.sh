#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# packaging/demo.sh BUILD: a private m4d on the default image, a story through
# libm4client, then what it took. Leaves nothing running.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "${1:?usage: packaging/demo.sh BUILD}")
scratch=$(mktemp -d)
daemon=
finish() {
	[ -n "$daemon" ] && kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null
	rm -rf "$scratch"
}
trap finish EXIT

# Kept between runs: the second start needs no shader compilation.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/m4
mkdir -p "$cache"
"$build/bin/m4d" --image firmware/nano/image --socket "$scratch/m4d.sock" --cache-dir "$cache" \
	2>"$scratch/log" &
daemon=$!
# The socket appears once the image is verified and the shaders are built.
while [ ! -S "$scratch/m4d.sock" ]; do
	kill -0 "$daemon" 2>/dev/null || {
		cat "$scratch/log" >&2
		exit 1
	}
	sleep 0.05
done
prompt=${M4_PROMPT:-Once upon a time there was a young fox named Hazel.}
printf '\n%s' "$prompt"
"$build/bin/m4ctl" --socket "$scratch/m4d.sock" run --stats --temperature 0.5 --seed 3 \
	--max-tokens 240 --stop "Question:" "$prompt" 2>"$scratch/stats"
printf '\n\n'
cat "$scratch/stats"
