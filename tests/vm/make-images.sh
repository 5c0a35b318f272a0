#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/vm/make-images.sh STAGE KEYS: the images that the case files load, under
# STAGE/images. KEYS holds dev.key and dev.crt, the key that the module under
# test trusts.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stage=${1:?usage: make-images.sh STAGE KEYS}
mkdir -p "$stage/images"

image() { python3 "$here/make_image.py" "$@"; }
make_image() {
	local name=$1
	shift
	image make "$stage/images/$name" "$@" >"$stage/images/$name.env"
}
make_image good --segments 4,4
make_image other-name --name other --segments 2
make_image deep --zero --segments 64,64,64,64,8
for kind in payload-bit manifest-bit leaf-bit root-bit magic major incompat \
	segment-size tensor-range short-manifest empty-manifest short-shard \
	missing-chunk missing-shard missing-manifest; do
	image damage "$kind" "$stage/images/good" "$stage/images/$kind"
done
# Says 6 GiB, which no guest here has to spare; its shards are never read.
make_image too-large --zero --segments 1024,1024,1024,1024,1024,1024
rm "$stage"/images/too-large/seg-*.m4w
