#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Train the default model from nothing and pack it: `make nano`. Replaces
# image/, golden.json, record.json and loss.svg; README.md's figures are then
# brought up to date by hand from record.json.
set -euo pipefail
cd "$(dirname "$0")"
m4fw=$(realpath "${1:-../../build}/bin/m4fw")
[ -x "$m4fw" ] || { echo "build.sh: build first: no $m4fw" >&2; exit 1; }
out=build/nano
/usr/bin/python3 train.py --out "$out"
/usr/bin/python3 reference.py "$out" --golden golden.json
cp "$out/record.json" "$out/loss.svg" .
checkpoint=$(mktemp -d)
trap 'rm -rf "$checkpoint"' EXIT
cp "$out/config.json" "$out/model.safetensors" "$out/tokenizer.model" "$checkpoint"
"$m4fw" pack --from "$checkpoint" --version nano-1 --force --out image
