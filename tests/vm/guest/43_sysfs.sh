# SPDX-License-Identifier: MIT
# What the module shows: every attribute with its mode, and no other; several
# images; tracepoints; uevents; hibernation.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
. "$art/images/good.env"

# docs/kernel-module.md's table; * for what says ENODATA without an image.
attributes="abi_version:444 state:444 error:444 progress:444 generation:444*
	generations:444 version:444* uuid:444* digest:444* root_hash:444*
	signer:444* development:444* payload_bytes:444* rollback_index:444*
	rollback_floor:644 pinned_bytes:444 mappings:444 exports:444 load:200
	revoke:200 scrub:644 scrubs:444 scrub_errors:444 scrub_period_s:644"

check "sysfs: the module loads" load_module
modes() {
	local wanted name mode
	for wanted in $attributes; do
		name=${wanted%%:*}
		mode=$(stat -c %a "$sys/$name") || return 1
		wanted=${wanted#*:}
		[ "$mode" = "${wanted%\*}" ] || { echo "$name has mode $mode"; return 1; }
	done
}
check "sysfs: every attribute is there with its mode" modes
others() {
	local file name
	for file in "$sys"/*; do
		name=${file##*/}
		if [ ! -f "$file" ] || [ "$name" = dev ] || [ "$name" = uevent ]; then continue; fi
		case " ${attributes//[$'\n\t']/ } " in
		*" $name:"*) ;;
		*) echo "$name is not documented"; return 1 ;;
		esac
	done
}
check "sysfs: and no other" others
names=()
for name in $attributes; do names+=("${name%%:*}"); done
equal "sysfs: kmod/ABI describes the same" "$(sort "$art/abi" | tr '\n' ' ')" \
	"$(printf '%s\n' "${names[@]}" | sort | tr '\n' ' ')"
empty_values() {
	local wanted name out
	for wanted in $attributes; do
		name=${wanted%%:*}
		case $wanted in
		*200) continue ;;
		*\*)
			out=$(LC_ALL=C cat "$sys/$name" 2>&1) && { echo "$name says $out"; return 1; }
			[[ $out == *"No data available"* ]] || { echo "$name: $out"; return 1; }
			;;
		*) cat "$sys/$name" >/dev/null || return 1 ;;
		esac
	done
}
check "sysfs: without an image ENODATA where it is said so" empty_values
equal "sysfs: abi_version" "$(attribute abi_version)" 2
load_image good
equal "sysfs: generation" "$(attribute generation)" 1
equal "sysfs: generations" "$(attribute generations)" 1
equal "sysfs: progress" "$(attribute progress)" 100
equal "sysfs: scrub" "$(attribute scrub)" 100
equal "sysfs: rollback_index" "$(attribute rollback_index)" 7
equal "sysfs: development" "$(attribute development)" 1
matches "sysfs: signer" "$(attribute signer)" "M4 development: ????????????????????????????????????????"
matches "sysfs: uuid" "$(attribute uuid)" "????????-????-????-????-????????????"
one_line() {
	local wanted name
	for wanted in $attributes; do
		name=${wanted%%:*}
		case $wanted in *200) continue ;; esac
		[ "$(wc -l <"$sys/$name")" -le 1 ] || { echo "$name"; return 1; }
	done
}
check "sysfs: one value a file" one_line
fails_with "sysfs: load cannot be read" "Permission denied" \
	setpriv --reuid=65534 --regid=65534 --clear-groups cat "$sys/load"
fails_with "sysfs: a stranger cannot revoke" "Permission denied" \
	setpriv --reuid=65534 --regid=65534 --clear-groups bash -c "echo 1 >$sys/revoke"
fails_with "sysfs: scrub takes no nonsense" "Invalid argument" bash -c "echo now >$sys/scrub"

exec 4<"$node"
fdinfo() { awk -v key="$1:" '$1 == key { $1 = ""; print substr($0, 2) }' /proc/self/fdinfo/4 4<&4; }
equal "fdinfo: name" "$(fdinfo m4-name)" backbone
equal "fdinfo: version" "$(fdinfo m4-version)" "$version"
equal "fdinfo: generation" "$(fdinfo m4-generation)" 1
equal "fdinfo: digest" "$(fdinfo m4-digest)" "$digest"
exec 4<&-

# poll(2) wakes at the end of a pass.
"$map_test" poll "$sys/scrub" >/run/poll.out &
poller=$!
check "poll: a process waits for a pass" wait_for 60 grep -q polling /run/poll.out
scrub_is_clean "poll: the pass finds nothing"
wait "$poller"
sed -n 's/of state$/of scrub/; 2,$p' /run/poll.out

# Tracepoints.
tracing=/sys/kernel/tracing
if [ -d "$tracing/events/m4" ]; then
	equal "trace: the events" "$(cd "$tracing/events/m4" && echo */)" \
		"m4_chunk_verify/ m4_dma_map/ m4_export/ m4_load/ m4_mmap/ m4_open/ m4_revoke/ m4_scrub/ m4_state/"
	echo >"$tracing/trace"
	echo 1 >"$tracing/events/m4/enable"
	load_image good
	cat "$node" >/dev/null 2>&1
	"$map_test" huge "$node" "$((payload_bytes + (2 << 20)))" >/dev/null
	scrub_pass
	"$art/guest/m4_misuse_export" hold "$node" </dev/null >/dev/null
	request revoke
	echo 0 >"$tracing/events/m4/enable"
	cp "$tracing/trace" /run/trace
	for event in m4_state m4_load m4_chunk_verify m4_open m4_mmap m4_export m4_scrub m4_revoke; do
		check "trace: $event names the image" grep -q "$event: backbone: " /run/trace
	done
	chunks=$((payload_bytes >> 21))
	equal "trace: one m4_chunk_verify a chunk" \
		"$(grep -c 'm4_chunk_verify: .* rc=0$' /run/trace)" "$chunks"
	check "trace: m4_load tells how it went" grep -q 'm4_load: .*bytes=.* rc=0$' /run/trace
else
	skip "trace: the events" "no tracefs, or no tracepoints in this kernel"
fi
check "sysfs: the module unloads" rmmod m4

# Several images.
mkdir -p /lib/firmware/m4
ln -sfn "$art/images/encoders" /lib/firmware/m4/encoders
use_image good
check "names: two images, loaded with the module" load_module names=backbone,encoders autoload=1
encoders_ready() { [ "$(cat /sys/class/m4/encoders/state)" = ready ]; }
check "names: the one is ready" wait_for 120 shows state ready
check "names: the other is ready" wait_for 120 encoders_ready
check "names: a node each" test -c /dev/m4/backbone -a -c /dev/m4/encoders
prefixed "names: encoders" "$map_test" content /dev/m4/encoders \
	"$art"/images/encoders/manifest.m4m "$art"/images/encoders/seg-*.m4w
prefixed "names: backbone" "$map_test" content "$node" \
	"$art"/images/good/manifest.m4m "$art"/images/good/seg-*.m4w
echo 1 >/sys/class/m4/encoders/revoke
equal "names: revoking one leaves the other" "$(attribute state)" ready
ln -sfn "$art/images/good" /lib/firmware/m4/encoders
echo 1 >/sys/class/m4/encoders/load
encoders_settled() { [ "$(cat /sys/class/m4/encoders/state)" = error ]; }
check "names: an image under the other's name is refused" wait_for 120 encoders_settled
matches "names: and says so" "$(cat /sys/class/m4/encoders/error)" \
	"manifest: image of another name, backbone (-22)"
check "names: the module unloads" rmmod m4
rm /lib/firmware/m4/encoders
for names in "a/b" "backbone,backbone" "UPPER" "control" "" ","; do
	fails_with "names: '$names' is refused" "" load_module names="$names"
	rmmod m4 2>/dev/null
done

# Hibernation would write the weights to a disk.
if [ -e /sys/power/state ] && grep -q disk /sys/power/state; then
	check "hibernation: an image is ready" ready_image good
	echo test_resume >/sys/power/disk 2>/dev/null
	fails_with "hibernation: is refused" "Device or resource busy" \
		bash -c 'echo disk >/sys/power/state'
	equal "hibernation: the image stays" "$(attribute state)" ready
	check "hibernation: and can be loaded again" load_image good
	check "hibernation: the module unloads" rmmod m4
else
	skip "hibernation: is refused" "this kernel does not hibernate"
fi
