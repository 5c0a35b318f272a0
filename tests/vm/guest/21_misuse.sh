# SPDX-License-Identifier: MIT
# Everything that root can try on a weight without a module of its own: each
# way is refused or harmless, and the image is afterwards what it was.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh

modprobe -qa loop udmabuf # where the kernel has them
check "misuse: an image is ready" ready_image three
digest=$(attribute digest)
for family in open file map memory process kernel pipe export; do
	prefixed refuse timeout 300 "$art/guest/m4_misuse_$family" "$node"
	scrub_is_clean "refuse: the re-hash finds nothing after $family"
done
equal "misuse: the digest is what it was" "$(attribute digest)" "$digest"
prefixed "after misuse" "$map_test" content "$node" \
	"$art"/images/three/manifest.m4m "$art"/images/three/seg-*.m4w
check "misuse: the module unloads" rmmod m4
