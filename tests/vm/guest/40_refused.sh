# SPDX-License-Identifier: MIT
# Images that must not be served: each is refused with its reason, nothing of
# it stays, and a good one loads afterwards.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
. "$art/images/good.env"

# refused IMAGE TEXT...: TEXT is a shell pattern for the whole error.
refused() {
	local image=$1 text=$2
	load_image "$image"
	matches "$image: reason" "$(attribute error)" "$text"
	equal "$image: state" "$(attribute state)" error
	equal "$image: pinned_bytes" "$(attribute pinned_bytes)" 0
	fails_with "$image: open" "No such device or address" cat "$node"
}

check "module: loads again" load_module
before=$(free_kib)
refused payload-bit "payload: chunk 3: digest does not match (seg-001.m4w at byte 2097152) (-74)"
refused manifest-bit "manifest: trailer: digest does not match, * (-74)"
refused leaf-bit "manifest: header.root: digest does not match, * (-74)"
refused root-bit "manifest: header.root: digest does not match, * (-74)"
refused magic "manifest: header.magic: not an M4 image, * (-22)"
refused major "manifest: header.version_major: unknown major version, * (-95)"
refused incompat "manifest: header.incompat: unknown feature bit, * (-95)"
refused segment-size "manifest: segment: *, entry 0, * (-22)"
refused tensor-range "manifest: tensor: outside the payload, entry 0, * (-22)"
refused short-manifest "manifest: header.manifest_bytes: * (-22)"
refused empty-manifest "manifest: cannot be read (-22)"
refused short-shard "seg-001.m4w: ends at byte 4190208 (-22)"
refused missing-chunk "seg-001.m4w: cannot be read at byte 2097152 (-2)"
refused missing-shard "seg-001.m4w: cannot be read at byte 0 (-2)"
refused missing-manifest "manifest: cannot be read (-2)"
refused other-name "manifest: image of another name, other (-22)"
refused too-large "payload: * bytes, * MiB to spare (-12)"
lost=$((before - $(free_kib)))
echo "# all refused images: $lost KiB less free"
check "refused: memory comes back" test "$lost" -lt 16384

load_image good
equal "then a good image is ready" "$(attribute state)" ready
equal "and no error is left" "$(attribute error)" ""
prefixed "after refusals" "$map_test" content "$node" \
	"$art"/images/good/manifest.m4m "$art"/images/good/seg-*.m4w
check "module: unloads" rmmod m4
