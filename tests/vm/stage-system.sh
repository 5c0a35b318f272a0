#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/vm/stage-system.sh BUILD STAGE [KEYS]: lay out under STAGE/system
#
#   root/     what BUILD installs, for the guest to lay over its own root
#   image/    the default image; without one, stories260K packed by m4fw; signed
#             by m4fw with KEYS/dev.key (default: keys beside STAGE)
#   newer/    the same weights under another version, hence another digest
#   stranger/ the same image, signed by nobody known (KEYS/other.key)
#   golden/   NAME.prompt, NAME.text: what greedy decoding must begin with
#   absent    instead of all this, why there is nothing to test
#
# Reference data is looked for in $M4_SHARED, else in ../shared beside the tree.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$1
system=$2/system
keys=${3:-$(dirname "$2")/keys}
make_image=$root/tests/vm/make_image.py
shared=${M4_SHARED:-$root/../shared}/data/stories260K
mkdir -p "$system"

absent() {
	echo "$1" >"$system/absent"
	exit 0
}

for program in m4d m4ctl m4fw; do
	[ -x "$build/bin/$program" ] || absent "$program is not built"
done
if [ -s "$root/firmware/nano/image/manifest.m4m" ]; then
	cp -r "$root/firmware/nano/image" "$system/image"
	golden=$root/firmware/nano/golden.json
elif [ -s "$shared/golden.json" ]; then
	"$build/bin/m4fw" pack --from "$shared/stories260K.f32.gguf" --name backbone \
		--out "$system/image" >/dev/null
	golden=$shared/golden.json
else
	absent "neither a default image nor reference data"
fi

sign() {
	rm -f "$system/$1/manifest.m4m.p7s"
	"$build/bin/m4fw" sign "$system/$1" --key "$keys/$2.key" --cert "$keys/$2.crt" >/dev/null
}
sign image dev
# Copies, not the links of make_image: the store wants files.
python3 "$make_image" damage newer-version "$system/image" "$system/links"
cp -rL "$system/links" "$system/newer"
rm -r "$system/links"
sign newer dev
cp -r "$system/image" "$system/stranger"
sign stranger other

mkdir "$system/golden"
python3 - "$golden" "$system/golden" <<'PYTHON'
import json, pathlib, sys
out = pathlib.Path(sys.argv[2])
for name, entry in json.load(open(sys.argv[1])).items():
    if entry["prompt"]:
        (out / f"{name}.prompt").write_text(entry["prompt"])
        (out / f"{name}.text").write_text(entry["text"])
PYTHON

DESTDIR=$system/root cmake --install "$build" --strip >"$system/install.log" || {
	cat "$system/install.log" >&2
	exit 1
}
[ -n "$(find "$system/root" -name m4d.socket)" ] || absent "the build installs no m4d.socket"
