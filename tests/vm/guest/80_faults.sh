# SPDX-License-Identifier: MIT
# needs: debug
# Allocations of the module's init and of a load fail, one at a time: each time it
# is refused cleanly, or did without, and nothing of it stays. KASAN, lockdep and
# kmemleak look on. Of a load it is every one; of init, whose hundreds are the
# kernel's own and whose unloads take seconds, some in every call that leaves the
# module (m4_fail.ko tells which, without what the kernel's loader of modules
# allocates before init).
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
debug=/sys/kernel/debug
fail=/sys/module/m4_fail/parameters

if [ ! -d "$debug/failslab" ] || [ ! -d "$debug/fail_page_alloc" ]; then
	skip "faults: every allocation of a load" "no fault injection in this kernel"
	exit 0
fi

# Also what may sleep, of any size, and without a trace in the log each time.
for point in failslab fail_page_alloc; do
	echo N >"$debug/$point/ignore-gfp-wait"
	echo 0 >"$debug/$point/verbose"
done
[ ! -d "$debug/fail_usercopy" ] || echo 0 >"$debug/fail_usercopy/verbose"
echo N >"$debug/fail_page_alloc/ignore-gfp-highmem"
echo 0 >"$debug/fail_page_alloc/min-order"
# What the kernel allocates to watch the others, one for each of them, does not
# fail: it has a reserve, and the load would not see it. (run.sh names them.)
echo Y >"$debug/failslab/cache-filter"
check "faults: they can be told where" insmod "$art/guest/m4_fail.ko"

# value FILE: its line in $REPLY, without a process: a kernel that checks itself
# takes its time for one.
value() { REPLY=; read -r REPLY <"$1" || true; }
over() { value "$fail/nth"; [ "$REPLY" = 0 ]; }
# More than any run has: none fails, and how many there are is known.
many=100000
# choose WHAT all|places: which are to fail, in $chosen.
choose() {
	value "$fail/places"
	read -ra chosen <<<"$REPLY"
	value "$fail/left"
	if [ "$2" = all ]; then
		chosen=()
		for ((nth = 1; nth <= many - REPLY; nth++)); do chosen+=("$nth"); done
	fi
	echo "# faults: $1 has $((many - REPLY)) allocations, ${#chosen[@]} of them fail"
	begun=$SECONDS
}
# load_with N: a load whose allocation N fails; in $state and $error.
load_with() {
	echo "$1" >"$fail/nth"
	request load
	wait_for 300 over || bad="no end at $1"
	value "$sys/state"
	state=$REPLY
	value "$sys/error"
	error=$REPLY
}
# progress WHAT: now and then, a word of how far it is.
progress() { [ $((++tried % 20)) -ne 0 ] || echo "# faults: $1: $tried tried, $((SECONDS - begun)) s"; }
nothing_stays() { shows pinned_bytes 0 && shows generations 0; }

# udev would do more than the module does for each of them.
udevadm control --stop-exec-queue

# The module is loaded while its own allocations fail. An unload takes seconds:
# this kernel gives objects back late, to see who still uses them.
bad=
refusals=0
tried=0
echo "$many" >"$fail/nth"
check "faults: the module loads" insmod "$art/m4.ko"
choose init places
for nth in "${chosen[@]}"; do
	no_module || bad="rmmod before $nth"
	echo "$nth" >"$fail/nth"
	insmod "$art/m4.ko" 2>/dev/null || refusals=$((refusals + 1))
	over || bad="init did not run at $nth"
	[ -z "$bad" ] || break
	progress init
done
echo "# faults: $refusals of $tried insmods refused, $((SECONDS - begun)) s"
equal "faults: insmod fails cleanly or not at all" "$bad" ""
check "faults: insmods were refused" test "$refusals" -gt 0

# An image is loaded while they fail.
check "faults: the module loads again" load_module scrub_period_s=0
use_image small
refusals=0
served=0
tried=0
load_image small # its files are in the page cache from here on
request revoke
load_with "$many"
equal "faults: nothing fails but what is told" "$state $error" "ready "
request revoke
choose "a load" all
for nth in "${chosen[@]}"; do
	load_with "$nth"
	case $state in
	error)
		refusals=$((refusals + 1))
		[ -n "$error" ] || bad="no reason at $nth"
		;;
	ready)
		served=$((served + 1))
		request revoke
		;;
	*) bad="state $state at $nth" ;;
	esac
	wait_for 60 nothing_stays || bad="$(attribute pinned_bytes) bytes pinned at $nth"
	[ -z "$bad" ] || break
	progress "a load"
done
echo "# faults: $refusals of $tried loads refused, $served served, $((SECONDS - begun)) s"
equal "faults: each load is refused cleanly or served" "$bad" ""
check "faults: loads were refused" test "$refusals" -gt 0

# The same under an update: what is current stays.
load_image good
digest=$(attribute digest)
use_image small
begun=$SECONDS
for ((i = 0; i < ${#chosen[@]}; i += 16)); do
	nth=${chosen[i]}
	load_with "$nth"
	if [ "$state" != ready ]; then
		bad="state $state at $nth"
	elif [ -n "$error" ] && [ "$(attribute digest)" != "$digest" ]; then
		bad="a refused update changed the digest at $nth"
	elif ! wait_for 60 shows generations 1; then
		bad="two generations at $nth"
	fi
	[ -z "$bad" ] || break
	[ -n "$error" ] || { load_image good; use_image small; }
done
echo "# faults: updates took $((SECONDS - begun)) s"
equal "faults: a failed update leaves what is current" "$bad" ""
load_image good
equal "faults: afterwards a load serves" "$(attribute state) $(attribute error)" "ready "
prefixed "after faults" "$map_test" content "$node" \
	"$art"/images/good/manifest.m4m "$art"/images/good/seg-*.m4w

check "faults: the module unloads" rmmod m4
rmmod m4_fail
udevadm control --start-exec-queue
