# SPDX-License-Identifier: MIT
# The node of a ready image: mapped, and nothing else.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
. "$art/images/good.env"

check "map: an image is ready" ready_image good
prefixed content "$map_test" content "$node" "$art"/images/good/manifest.m4m \
	"$art"/images/good/seg-*.m4w
prefixed huge "$map_test" huge "$node" "$((payload_bytes + (2 << 20)))"
prefixed gup "$map_test" gup "$node"

mount -o remount,noexec /dev
prefixed noexec "$map_test" noexec "$node"
mount -o remount,exec /dev

exec 4<"$node"
equal "fdinfo: names the image" \
	"$(awk '$1 == "m4-digest:" { print $2 }' /proc/self/fdinfo/4 4<&4)" "$digest"
exec 4<&-

fails_with "a stranger cannot open the node" "Permission denied" \
	setpriv --reuid=65534 --regid=65534 --clear-groups "$map_test" hold "$node"

# What lies on disk no longer matters: the files are gone, then others.
rm "$firmware"
prefixed "files gone" "$map_test" content "$node" \
	"$art"/images/good/manifest.m4m "$art"/images/good/seg-*.m4w
use_image payload-bit
prefixed "files swapped" "$map_test" content "$node" \
	"$art"/images/good/manifest.m4m "$art"/images/good/seg-*.m4w
