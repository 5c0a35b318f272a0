# SPDX-License-Identifier: MIT
# needs: bigmem
# 2.5 GiB in three shards: as large as what this is for.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
. "$art/images/large.env"

load_module
start=$EPOCHREALTIME
use_image large
request load
check "large: is decided" wait_for 900 settled
took=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
equal "large: state" "$(attribute state) $(attribute error)" "ready "
echo "# large: $((payload_bytes >> 20)) MiB in $took s," \
	"$(awk -v b="$payload_bytes" -v s="$took" 'BEGIN { printf "%.0f", b / s / 1e6 }') MB/s"
equal "large: pinned_bytes" "$(attribute pinned_bytes)" "$((payload_bytes + (2 << 20)))"
start=$EPOCHREALTIME
prefixed large "$map_test" huge "$node" "$((payload_bytes + (2 << 20)))"
scrub_is_clean "large: the re-hash finds nothing"
echo "# large: touched and hashed again in" \
	"$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }') s"
check "large: unloads" rmmod m4
