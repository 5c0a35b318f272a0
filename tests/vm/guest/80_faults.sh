# SPDX-License-Identifier: MIT
# needs: debug
# Every allocation of a load fails once: each time the load is refused cleanly,
# or did without, and nothing of it stays. KASAN, lockdep and kmemleak look on.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
debug=/sys/kernel/debug

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

# The load runs in one of the kernel's workers, its hashing in others. Nothing is
# forked here: a kernel that checks itself takes its time for that.
workers=()
find_workers() {
	local file name
	workers=()
	for file in /proc/[0-9]*/comm; do
		read -r name 2>/dev/null <"$file" || continue
		case $name in kworker/u*) workers+=("${file%comm}fail-nth") ;; esac
	done
}
# fail_nth N: of each worker, allocation N from now fails; 0: none does.
fail_nth() {
	local file
	for file in "${workers[@]}"; do
		echo "$1" 2>/dev/null >"$file"
	done
}
# Has any of them met its failure?
failed_one() {
	local file left
	for file in "${workers[@]}"; do
		read -r left 2>/dev/null <"$file" || continue
		[ "$left" != 0 ] || return 0
	done
	return 1
}
# value ATTRIBUTE: in $REPLY
value() { REPLY=; read -r REPLY <"$sys/$1" || true; }
# load_with N: a load during which allocation N of each worker fails.
load_with() {
	find_workers
	fail_nth "$1"
	request load
	while value state && [[ $REPLY == *ing ]]; do sleep 0.05; done
	injected=1
	failed_one || injected=0
	fail_nth 0
	state=$REPLY
	value error
	error=$REPLY
}
# further N: the next place to try; all of the first, then fewer.
further() { echo $(($1 + 1 + $1 / 40)); }

check "faults: the module loads" load_module
use_image small
refusals=0
served=0
quiet=0
nth=1
bad=
begun=$SECONDS
while [ $((SECONDS - begun)) -lt 400 ]; do
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
	value pinned_bytes
	[ "$REPLY" = 0 ] || bad="$REPLY bytes pinned at $nth"
	value generations
	[ "$REPLY" = 0 ] || bad="$REPLY generations at $nth"
	[ -z "$bad" ] || break
	# Past the last allocation, unless the load went to a worker made just now.
	quiet=$((injected == 0 ? quiet + 1 : 0))
	[ "$quiet" -lt 3 ] || break
	nth=$(further "$nth")
done
echo "# faults: up to allocation $nth: $refusals loads refused, $served served, $((SECONDS - begun)) s"
equal "faults: each load is refused cleanly or served" "$bad" ""
check "faults: loads were refused" test "$refusals" -gt 0

# The same under an update: what is current stays.
load_image good
digest=$(attribute digest)
for ((nth = 1; nth < 200; nth = nth * 3 / 2 + 1)); do
	use_image small
	load_with "$nth"
	if [ "$state" != ready ]; then
		bad="state $state at $nth"
	elif [ -n "$error" ] && [ "$(attribute digest)" != "$digest" ]; then
		bad="a refused update changed the digest at $nth"
	elif ! wait_for 60 shows generations 1; then
		bad="two generations at $nth"
	fi
	[ -z "$bad" ] || break
	[ -n "$error" ] || load_image good
done
equal "faults: a failed update leaves what is current" "$bad" ""
load_image good
equal "faults: afterwards a load serves" "$(attribute state) $(attribute error)" "ready "
prefixed "after faults" "$map_test" content "$node" \
	"$art"/images/good/manifest.m4m "$art"/images/good/seg-*.m4w

# And a module that is loaded while its own allocations fail.
fails=0
check "faults: the module unloads" rmmod m4
for ((nth = 1; nth < 1000; nth = nth * 3 / 2 + 1)); do
	bash -c "echo $nth >/proc/self/fail-nth; exec insmod $art/m4.ko" 2>/dev/null || fails=$((fails + 1))
	no_module || { bad="rmmod at $nth"; break; }
done
echo "# faults: $fails insmods refused"
equal "faults: insmod fails cleanly or not at all" "$bad" ""
check "faults: and then loads" load_module
check "faults: the module unloads at last" rmmod m4
