# SPDX-License-Identifier: MIT
# An image taken back: by hand, and because a bit of it turned in memory.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
reader=$art/guest/m4_reader

mkfifo /run/revoke.in

# reads_until_revoked PREFIX HOW...: HOW revokes it while a process reads it.
reads_until_revoked() {
	local prefix=$1 pid
	shift
	"$reader" revoked "$node" >/run/revoked.out &
	pid=$!
	check "$prefix: a process reads the image" wait_for 60 grep -q mapped /run/revoked.out
	check "$prefix: it is revoked" "$@"
	wait "$pid"
	grep -v '^mapped' /run/revoked.out | sed "s/^\(ok\|not ok\) /\1 $prefix: /"
	equal "$prefix: state" "$(attribute state)" revoked
	equal "$prefix: no generation is left" "$(attribute generations)" 0
	equal "$prefix: pinned_bytes" "$(attribute pinned_bytes)" 0
	equal "$prefix: no mapping is left" "$(attribute mappings)" 0
	fails_with "$prefix: no digest is shown" "No data available" cat "$sys/digest"
	fails_with "$prefix: nothing to revoke" "No data available" request revoke
	fails_with "$prefix: nothing to re-hash" "No data available" request scrub
}

check "revoke: an image is ready" ready_image good
fails_with "revoke: takes no nonsense" "Invalid argument" bash -c "echo yes >$sys/revoke"
lines=$(log_lines)
reads_until_revoked revoke request revoke
matches "revoke: error tells why" "$(attribute error)" "?*"
equal "revoke: lines in the kernel log" $(($(log_lines) - lines)) 1
load_image good
equal "revoke: a load serves again" "$(attribute state) $(attribute generation)" "ready 2"
prefixed "after revoke" "$map_test" content "$node" \
	"$art"/images/good/manifest.m4m "$art"/images/good/seg-*.m4w

# Of two generations only the current one is taken back by hand.
exec 6<"$node"
load_image second
check "revoke of two: the current one" request revoke
equal "revoke of two: state" "$(attribute state)" revoked
equal "revoke of two: the older one lives" "$(attribute generations)" 1
fails_with "revoke of two: the node is closed" "No such device or address" cat "$node"
exec 6<&-
check "revoke of two: until its file is closed" wait_for 60 shows generations 0
equal "revoke of two: pinned_bytes" "$(attribute pinned_bytes)" 0

# While a load is under way.
check "revoke while updating: an image is ready" ready_image good
use_image deep
request load
check "revoke while updating: it is revoked" request revoke
check "revoke while updating: the update ends" wait_for 300 shows state ready
equal "revoke while updating: generation" "$(attribute generation)" 2

if ! insmod "$art/guest/m4_poke.ko"; then
	not_ok "altered memory" "m4_poke.ko cannot be loaded"
	exit 0
fi
# poke OFFSET: turns a bit of that byte of the node, in memory.
poke() { "$reader" physical "$node" "$1" >/sys/module/m4_poke/parameters/flip; }
errors_are() { [ "$(attribute scrub_errors)" = "$1" ]; }
# The idle re-hash is off: on a slow machine it would be the one to find it, and
# leave the pass nothing to hash.
altered() { echo 0 >"$sys/scrub_period_s" && poke "$1" && scrub_pass; }

check "altered weight: an image is ready" ready_image good
scrub_is_clean "altered weight: at first the re-hash finds nothing"
# byte 123457 of payload chunk 2
reads_until_revoked "altered weight" altered $((3 * 2097152 + 123457))
matches "altered weight: error names the chunk" "$(attribute error)" \
	"generation 1: payload: chunk 2: altered in memory (-74)"
equal "altered weight: scrub_errors" "$(attribute scrub_errors)" 1
property() { udevadm info --query=property --path="$sys" | grep -q "$1"; }
check "altered weight: M4_STATE=revoked reaches udev" wait_for 60 property '^M4_STATE=revoked$'
check "altered weight: M4_ERROR reaches udev" property '^M4_ERROR=.*chunk 2'
load_image good
equal "altered weight: a load serves again" "$(attribute state)" ready
prefixed "after an altered weight" "$map_test" content "$node" \
	"$art"/images/good/manifest.m4m "$art"/images/good/seg-*.m4w

# The first byte of the first chunk and the last of the last.
check "altered edge: an image is ready" ready_image good
check "altered edge: the first byte" altered 2097152
matches "altered edge: first byte is found" "$(attribute error)" "generation 1: payload: chunk 0: *"
load_image good
check "altered edge: the last byte" altered $((5 * 2097152 - 1))
matches "altered edge: last byte is found" "$(attribute error)" "generation 2: payload: chunk 3: *"

load_image good
check "altered manifest: a bit" altered 60
matches "altered manifest: is found" "$(attribute error)" "generation 3: manifest: altered in memory (-74)"
equal "altered manifest: state" "$(attribute state)" revoked
# Zeros behind the manifest are shown, too.
load_image good
check "altered padding: a bit behind the manifest" altered $((2097152 - 16))
equal "altered padding: is found" "$(attribute state)" revoked

# An older generation altered: it goes, the current one stays.
load_image good
exec 6<"$node"
check "altered old one: a bit" poke 2097152
load_image second
equal "altered old one: the update is taken" "$(attribute state) $(attribute generations)" "ready 2"
check "altered old one: a pass" scrub_pass
equal "altered old one: the current one stays" "$(attribute state)" ready
matches "altered old one: error names it" "$(attribute error)" "generation *: payload: chunk 0: altered in memory (-74)"
exec 6<&-
check "altered old one: goes when closed" wait_for 60 shows generations 1

# Nobody asks: the idle re-hash comes round by itself.
check "idle re-hash: an image is ready" ready_image good
check "idle re-hash: once a second" bash -c "echo 1 >$sys/scrub_period_s"
equal "idle re-hash: period" "$(attribute scrub_period_s)" 1
check "idle re-hash: a bit" poke $((2 * 2097152 + 5))
check "idle re-hash: finds it unasked" wait_for 120 shows state revoked
matches "idle re-hash: error names the chunk" "$(attribute error)" "generation 1: payload: chunk 1: *"
equal "idle re-hash: was no pass" "$(attribute scrubs)" 0
check "idle re-hash: none where the period is 0" load_module scrub_period_s=0
equal "idle re-hash: period 0" "$(attribute scrub_period_s)" 0
fails_with "idle re-hash: a period takes no nonsense" "Invalid argument" \
	bash -c "echo often >$sys/scrub_period_s"

# A page that a pipe still holds is zeroed when its generation goes.
load_image good
"$reader" holds "$node" $((2097152 + 4096)) </run/revoke.in >/run/holds.out &
holder=$!
exec 5>/run/revoke.in
check "page in a pipe: is held" wait_for 60 grep -q held /run/holds.out
check "page in a pipe: the module unloads" rmmod m4
exec 5>&-
wait "$holder"
equal "page in a pipe: is zero afterwards" "$(tail -n 1 /run/holds.out)" zero
check "altered memory: m4_poke unloads" rmmod m4_poke
