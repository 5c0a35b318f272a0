# SPDX-License-Identifier: MIT
# More chunks than one block of the tree has digests for, in five shards.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
. "$art/images/deep.env"

load_module
"$map_test" poll "$sys/state" >/run/poll.out &
poller=$!
check "poll: a process waits for the state" wait_for 60 grep -q polling /run/poll.out
start=$EPOCHREALTIME
use_image deep
echo 1 >"$sys/load"
fails_with "deep: load is busy while loading" "Device or resource busy" \
	bash -c "echo 1 >$sys/load"
check "deep: is decided" wait_for 300 settled
wait "$poller"
sed -n '2,$p' /run/poll.out
equal "deep: state" "$(attribute state)" ready
equal "deep: root_hash" "$(attribute root_hash)" "$root_hash"
echo "# deep: $((payload_bytes >> 20)) MiB in" \
	"$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }') s"
prefixed deep "$map_test" huge "$node" "$((payload_bytes + (2 << 20)))"
check "deep: unloads" rmmod m4
