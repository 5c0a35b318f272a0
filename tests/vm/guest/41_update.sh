# SPDX-License-Identifier: MIT
# One image replaced by another under those who read it, and taken back.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
reader=$art/guest/m4_reader
good=$art/images/good
second=$art/images/second

update_to() {
	local generation
	generation=$(attribute generation)
	load_image "$1"
	[ "$(attribute state) $(attribute generation)" = "ready $((generation + 1))" ]
}

check "update: an image is ready" ready_image good
equal "update: generation" "$(attribute generation)" 1
pinned=$(attribute pinned_bytes)
mkfifo /run/between.in /run/through.in
"$reader" between "$node" "$good" "$second" </run/between.in >/run/between.out &
between=$!
exec 5>/run/between.in
check "update: a process opens and reads again and again" \
	wait_for 60 grep -q reading /run/between.out

# Twenty updates; an old generation goes when its last reader lets go of it.
twenty() {
	local i image
	for i in 1 2 3 4 5 6 7 8 9 10; do
		for image in second good; do
			if ! wait_for 60 shows generations 1 || ! update_to "$image"; then
				echo "round $i: $(attribute state) $(attribute error)"
				return 1
			fi
		done
	done
}
check "update: twenty times between two images" twenty
exec 5>&-
wait "$between"
sed '1d; s/^\(ok\|not ok\) /\1 update: /' /run/between.out
equal "update: generation counts them" "$(attribute generation)" 21
check "update: one generation is left" wait_for 60 shows generations 1
equal "update: pinned_bytes" "$(attribute pinned_bytes)" "$pinned"
equal "update: no mapping is left" "$(attribute mappings)" 0

# A mapping keeps the generation it was made of.
"$reader" through "$node" "$good" </run/through.in >/run/through.out &
through=$!
exec 5>/run/through.in
check "old mapping: a process reads it" wait_for 60 grep -q reading /run/through.out
equal "old mapping: is counted" "$(attribute mappings)" 1
check "old mapping: an update beside it" update_to second
equal "old mapping: two generations" "$(attribute generations)" 2
equal "old mapping: pinned_bytes of both" "$(attribute pinned_bytes)" $((2 * pinned))
prefixed "new mapping" "$map_test" content "$node" "$second"/manifest.m4m "$second"/seg-*.m4w
fails_with "third generation: load is refused" "Device or resource busy" request load
equal "third generation: state" "$(attribute state)" ready
scrub_is_clean "old mapping: the re-hash looks at both and finds nothing"
exec 5>&-
wait "$through"
sed '1d; s/^\(ok\|not ok\) /\1 old mapping: /' /run/through.out
check "old mapping: with it the old generation goes" wait_for 60 shows generations 1
equal "old mapping: pinned_bytes of one" "$(attribute pinned_bytes)" "$pinned"
check "third generation: now an update is taken" update_to good

# An open descriptor alone holds a generation, too.
exec 6<"$node"
check "open file: an update beside it" update_to second
equal "open file: two generations" "$(attribute generations)" 2
exec 6<&-
check "open file: with it the old generation goes" wait_for 60 shows generations 1

# Backwards: allowed down to the floor, which only rises.
equal "floor: at first" "$(attribute rollback_floor)" 0
check "floor: an older image is taken" update_to old
equal "floor: rollback_index" "$(attribute rollback_index)" 3
check "floor: is raised" bash -c "echo 7 >$sys/rollback_floor"
fails_with "floor: is not lowered" "Operation not permitted" \
	bash -c "echo 6 >$sys/rollback_floor"
fails_with "floor: takes no nonsense" "Invalid argument" \
	bash -c "echo low >$sys/rollback_floor"
check "floor: an image at the floor is taken" update_to good
load_image old
matches "floor: an older one is refused" "$(attribute error)" \
	"manifest: rollback index 3 is below the floor, 7 (-1)"
equal "floor: what was current stays" "$(attribute state) $(attribute rollback_index)" "ready 7"
check "floor: is as high as it can be" bash -c "echo 18446744073709551615 >$sys/rollback_floor"
load_image good
matches "floor: nothing is high enough" "$(attribute error)" "manifest: rollback index 7 is below *"
check "floor: the module unloads" rmmod m4
check "floor: a parameter sets it" load_module rollback_floor=8
load_image good
matches "floor: and refuses" "$(attribute error)" "manifest: rollback index 7 is below the floor, 8 (-1)"
load_image second
equal "floor: and takes" "$(attribute state)" ready
check "floor: unloads" rmmod m4
