# SPDX-License-Identifier: MIT
# Images that must not be served: each is refused with its reason, nothing of
# it stays, the kernel log has one line of it, and a good one loads afterwards.
# Then once more with a good one current: it stays, and stays what it is.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
. "$art/images/good.env"

# refused IMAGE TEXT: TEXT is a shell pattern for the whole error.
refused() {
	local image=$1 text=$2 lines
	lines=$(log_lines)
	load_image "$image"
	matches "$image: reason" "$(attribute error)" "$text"
	equal "$image: state" "$(attribute state)" error
	equal "$image: pinned_bytes" "$(attribute pinned_bytes)" 0
	equal "$image: lines in the kernel log" $(($(log_lines) - lines)) 1
	fails_with "$image: open" "No such device or address" cat "$node"
}

# not_taken IMAGE TEXT: the same, as an update of a good image.
not_taken() {
	local image=$1 text=$2 before after
	before="ready $(attribute generation) $(attribute generations)"
	before+=" $(attribute digest) $(attribute pinned_bytes)"
	load_image "$image"
	matches "update to $image: reason" "$(attribute error)" "$text"
	after="$(attribute state) $(attribute generation) $(attribute generations)"
	after+=" $(attribute digest) $(attribute pinned_bytes)"
	equal "update to $image: all else is as before" "$after" "$before"
}

all() {
	local check=$1
	"$check" unsigned "signature: manifest.m4m.p7s cannot be read (-2)"
	"$check" wrong-key "signature: not by a trusted key (-126)"
	"$check" signature-of-another "signature: not over this manifest (-129)"
	"$check" signature-bit "signature: * (-@(74|129))"
	"$check" signature-short "signature: not detached PKCS#7 (-74)"
	"$check" signature-long "signature: over 64 KiB (-27)"
	"$check" signature-empty "signature: manifest.m4m.p7s cannot be read (-22)"
	"$check" signature-garbage "signature: not detached PKCS#7 (-74)"
	"$check" manifest-bit "signature: not over this manifest (-129)"
	"$check" resealed-manifest "signature: not over this manifest (-129)"
	"$check" long-manifest "*: * (-*)"
	"$check" empty-manifest "manifest: cannot be read (-22)"
	"$check" missing-manifest "manifest: cannot be read (-2)"

	"$check" magic "manifest: header.magic: not an M4 image, * (-22)"
	"$check" major "manifest: header.version_major: unknown major version, * (-95)"
	"$check" incompat "manifest: header.incompat: unknown feature bit, * (-95)"
	"$check" reserved "manifest: header.reserved*: not zero, * (-22)"
	"$check" leaf-bit "manifest: header.root: digest does not match, * (-74)"
	"$check" root-bit "manifest: header.root: digest does not match, * (-74)"
	"$check" segment-size "manifest: segment: *, entry 0, * (-22)"
	"$check" segment-gap "manifest: segment: does not follow the one before, entry 1, * (-22)"
	"$check" segment-overflow "manifest: segment: *, entry 1, * (-22)"
	"$check" segment-sum "manifest: header.payload_bytes: not the sum of the segments, * (-22)"
	"$check" manifest-size "manifest: header.manifest_bytes: * (-22)"
	"$check" range-overflow "manifest: header.tree: * (-22)"
	"$check" tensor-range "manifest: tensor: outside the payload, entry 0, * (-22)"
	"$check" tensor-overlap "manifest: tensor: overlaps or precedes the one before, entry 1, * (-22)"
	"$check" tensor-overflow "manifest: tensor: *, entry 4, * (-22)"
	"$check" short-manifest "manifest: header.manifest_bytes: * (-22)"
	"$check" other-name "manifest: image of another name, other (-22)"

	"$check" payload-bit "payload: chunk 3: digest does not match (seg-001.m4w at byte 2097152) (-74)"
	"$check" swapped-shards "payload: chunk 0: digest does not match (seg-000.m4w at byte 0) (-74)"
	"$check" short-shard "seg-001.m4w: ends at byte 4190208 (-22)"
	"$check" long-shard "seg-001.m4w: does not end at byte 4194304 (-22)"
	"$check" longer-shard "seg-001.m4w: does not end at byte 4194304 (-22)"
	"$check" missing-chunk "seg-001.m4w: cannot be read at byte 2097152 (-2)"
	"$check" missing-shard "seg-001.m4w: cannot be read at byte 0 (-2)"
	"$check" too-large "payload: * bytes, * MiB to spare (-12)"
}

shopt -s extglob
check "module: loads again" load_module
before=$(free_kib)
all refused
lost=$((before - $(free_kib)))
echo "# all refused images: $lost KiB less free"
check "refused: memory comes back" test "$lost" -lt 16384

load_image good
equal "then a good image is ready" "$(attribute state)" ready
equal "and no error is left" "$(attribute error)" ""
all not_taken
prefixed "after refusals" "$map_test" content "$node" \
	"$art"/images/good/manifest.m4m "$art"/images/good/seg-*.m4w
scrub_is_clean "after refusals: the re-hash finds nothing"
load_image good
equal "then an update is taken" "$(attribute state) $(attribute generation)" "ready 2"
check "module: unloads" rmmod m4

# Every chunk of every shard, its first byte, one in the middle and its last.
check "altered chunks: the module loads" load_module
image_copy three
link_image "$copy"
every_chunk() {
	local shard=0 chunk=0 chunks index offset want
	for chunks in 2 1 2; do
		for ((index = 0; index < chunks; index++, chunk++)); do
			for offset in 0 1000001 2097151; do
				offset=$((index * 2097152 + offset))
				flip "$copy/seg-00$shard.m4w" "$offset" || return 1
				request load && wait_for 300 settled
				flip "$copy/seg-00$shard.m4w" "$offset" || return 1
				want="payload: chunk $chunk: digest does not match"
				want+=" (seg-00$shard.m4w at byte $((index * 2097152))) (-74)"
				if [ "$(attribute state) $(attribute pinned_bytes)" != "error 0" ] ||
					[ "$(attribute error)" != "$want" ]; then
					echo "byte $offset of shard $shard: $(attribute state)," \
						"$(attribute error), wanted $want"
					return 1
				fi
			done
		done
		shard=$((shard + 1))
	done
}
check "altered chunks: each of five in three shards is found and named" every_chunk
check "altered chunks: put right again it loads" load_image three
equal "altered chunks: and is ready" "$(attribute state)" ready

# Two altered ones: the first is named.
image_copy good
link_image "$copy"
flip "$copy/seg-001.m4w" 100
flip "$copy/seg-000.m4w" 2097152
request load && wait_for 300 settled
matches "two altered chunks: the first is named" "$(attribute error)" "payload: chunk 1: *"
rm -rf "$copy"

# Bytes here and there of the manifest and of its signature.
image_copy small
link_image "$copy"
check "altered bytes: the module loads" load_module
every_byte() {
	local file=$1 offset
	shift
	for offset in "$@"; do
		flip "$copy/$file" "$offset" || return 1
		request load && wait_for 300 settled
		flip "$copy/$file" "$offset" || return 1
		if [ "$(attribute state)" != error ]; then
			echo "byte $offset: $(attribute state)"
			return 1
		fi
	done
}
check "altered bytes: none of the manifest is taken" every_byte manifest.m4m \
	0 8 12 16 24 32 40 48 64 96 120 128 131 136 168 200 240 255 256 400 \
	$(($(stat -c %s "$copy/manifest.m4m") - 1))
size=$(stat -c %s "$copy/manifest.m4m.p7s")
# Lengths, what it is, the signer's name and serial, the signature itself. (The
# set of algorithms at byte 26 says nothing that the signer's part does not; the
# kernel does not read it.)
check "altered bytes: none of the signature is taken" every_byte manifest.m4m.p7s \
	0 1 2 3 5 10 17 21 45 60 75 80 100 $((size - 388)) $((size - 384)) \
	$((size - 200)) $((size - 1))
check "altered bytes: put right again it loads" request load
check "altered bytes: and is decided" wait_for 300 settled
equal "altered bytes: and is ready" "$(attribute state)" ready
rm -rf "$copy"
check "altered bytes: the module unloads" rmmod m4
