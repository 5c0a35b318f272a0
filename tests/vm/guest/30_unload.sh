# SPDX-License-Identifier: MIT
# Unloading: refused while in use, clean afterwards, again and again.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh

check "unload: an image is ready" ready_image good
mkfifo /run/hold.in
"$map_test" hold "$node" </run/hold.in >/run/hold.out &
holder=$!
exec 5>/run/hold.in
check "busy: a process maps the node" wait_for 60 grep -q held /run/hold.out
fails_with "busy: rmmod is refused" "in use" rmmod m4
equal "busy: the image stays ready" "$(attribute state)" ready
exec 5>&-
wait "$holder"
check "unload: after the last mapping" rmmod m4
check "unload: the node is gone" test ! -e "$node"
check "unload: the class is gone" test ! -e /sys/class/m4

# An open file alone is in the way, too.
check "open: an image is ready" ready_image good
exec 6<"$node"
fails_with "open: rmmod is refused" "in use" rmmod m4
exec 6<&-
check "open: after the last file" rmmod m4

use_image small
cycle() {
	load_module autoload=1 && wait_for 120 settled &&
		[ "$(attribute state)" = ready ] && rmmod m4
}
rounds=100
[ "${IS_DEBUG:-0}" = 0 ] || rounds=20 # a kernel that checks itself takes its time
cycles() {
	local i
	for ((i = 0; i < rounds; i++)); do
		cycle || return 1
	done
}
check "cycles: once" cycle # what slabs and daemons keep, they keep from here on
before=$(free_kib)
check "cycles: a hundred times load, ready, unload" cycles
lost=$((before - $(free_kib)))
echo "# $rounds cycles: $lost KiB less free"
check "cycles: memory comes back" test "$lost" -lt 16384

# In the middle of a load of 264 MiB.
use_image deep
interrupted() { load_module autoload=1 && rmmod m4; }
check "unload: stops a load" interrupted
lost=$((before - $(free_kib)))
check "unload: a stopped load leaves nothing" test "$lost" -lt 16384
