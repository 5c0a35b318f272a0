#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/vm/make-images.sh STAGE KEYS: the images that the case files load, under
# STAGE/images, and the names of the documented attributes, STAGE/abi. KEYS holds dev.key and dev.crt, the key that the module under
# test trusts; a key that it does not know is made there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stage=${1:?usage: make-images.sh STAGE KEYS}
keys=${2:?usage: make-images.sh STAGE KEYS}
mkdir -p "$stage/images"
sed -n 's|^What:.*/||p' "$here/../../kmod/ABI/sysfs-class-m4" >"$stage/abi"

image() { python3 "$here/make_image.py" "$@"; }
# sign NAME [KEY]
sign() {
	image sign "$stage/images/$1" --key "$keys/${2:-dev}.key" --cert "$keys/${2:-dev}.crt"
}
make_image() {
	local name=$1
	shift
	image make "$stage/images/$name" "$@" >"$stage/images/$name.env"
	sign "$name"
}
# damaged SOURCE KIND [NAME]: signed as it is before the damage.
damaged() { image damage "$2" "$stage/images/$1" "$stage/images/${3:-$2}"; }

make_image good --segments 4,4
make_image second --version 2.0 --rollback-index 8 --segments 4,4
make_image old --version 0.9 --rollback-index 3 --segments 2
make_image three --segments 4,2,4
make_image other-name --name other --segments 2
make_image encoders --name encoders --segments 2
make_image small --segments 2
make_image deep --zero --segments 64,64,64,64,8
# 2.5 GiB that take no room on the disk
make_image large --zero --segments 1024,1024,512

# Whoever holds the key signed nonsense.
for kind in leaf-bit root-bit magic major incompat reserved segment-size \
	segment-gap segment-sum segment-overflow manifest-size range-overflow \
	tensor-range tensor-overlap tensor-overflow short-manifest; do
	damaged good "$kind"
	sign "$kind"
done

# Nobody signed what is there.
openssl req -x509 -newkey rsa:3072 -nodes -sha256 -days 30 \
	-subj "/CN=M4 nobody" -keyout "$keys/other.key" \
	-out "$keys/other.crt" 2>"$keys/other.log"
damaged good none wrong-key
sign wrong-key other
for kind in unsigned signature-bit signature-short signature-long \
	signature-empty signature-garbage manifest-bit empty-manifest \
	long-manifest missing-manifest; do
	damaged good "$kind"
done
damaged good root-bit resealed-manifest
damaged good none signature-of-another
rm "$stage/images/signature-of-another/manifest.m4m.p7s"
cp "$stage/images/second/manifest.m4m.p7s" "$stage/images/signature-of-another/"

# What is signed is not what lies beside it.
for kind in payload-bit short-shard long-shard longer-shard missing-chunk \
	missing-shard swapped-shards; do
	damaged good "$kind"
done

# Says 6 GiB, which no guest here has to spare; its shards are never read.
make_image too-large --zero --segments 1024,1024,1024,1024,1024,1024
rm "$stage"/images/too-large/seg-*.m4w
