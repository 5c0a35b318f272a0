# SPDX-License-Identifier: MIT
# More chunks than one block of the tree has digests for, in five shards.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
. "$art/images/deep.env"

load_module
start=$EPOCHREALTIME
load_image deep
equal "deep: state" "$(attribute state)" ready
equal "deep: root_hash" "$(attribute root_hash)" "$root_hash"
echo "# deep: $((payload_bytes >> 20)) MiB in" \
	"$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }') s"
prefixed deep "$map_test" huge "$node" "$((payload_bytes + (2 << 20)))"
check "deep: unloads" rmmod m4
