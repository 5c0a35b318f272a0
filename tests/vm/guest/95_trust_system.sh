# SPDX-License-Identifier: MIT
# needs: systemd
# An image's life under the service: staged, refused, activated, updated while
# a client reads, rolled back, revoked, loaded again.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh

if [ -e "$system/absent" ]; then
	skip "trust: stage, activate, revoke under m4d" "$(<"$system/absent")"
	exit 0
fi
no_module
systemctl stop m4d.socket m4d.service 2>/dev/null
install_system
rm -rf /lib/firmware/m4
mkdir -p /lib/firmware/m4

names=("$system"/golden/*.prompt)
first=$(basename "${names[0]}" .prompt)
digest_of() { tail -c 32 "$1/manifest.m4m" | od -An -v -tx1 | tr -d ' \n'; }
old=$(digest_of "$system/image")
new=$(digest_of "$system/newer")
shows_json() { [[ $(ctl "${@:2}" --json 2>/dev/null) == *"$1"* ]]; }
# serves DIGEST: and not only did so before it was revoked
serves() {
	shows_json "\"digest\":\"$1\"" firmware show &&
		shows_json '"state":"ready"' firmware show
}

# Who signed is asked by the kernel, and a refusal leaves nothing behind.
check "trust: modprobe" modprobe m4
check "stage: an image of a stranger's" m4ctl firmware stage "$system/stranger"
fails_with "activate: a stranger's image is refused" "not by a trusted key" \
	m4ctl firmware activate "$old"
equal "activate: and is not current" "$(readlink /lib/firmware/m4/backbone)" ""
check "stage: the same, signed by one whom the module knows" m4ctl firmware stage "$system/image"
check "activate: is loaded" m4ctl firmware activate latest
equal "activate: state" "$(attribute state)" ready
equal "activate: digest" "$(attribute digest)" "$old"
check "trust: the socket unit starts" systemctl start m4d.socket
greedy "trust: golden text of '$first'" "$first" 6
check "trust: it is the image activated" serves "$old"
check "verify: the kernel hashes again" m4ctl firmware verify

# An update under a client that reads.
generation=$(attribute generation)
pid=$(daemon_pid)
check "stage: a newer one" m4ctl firmware stage "$system/newer"
ctl run --greedy --ignore-eos --max-tokens 200 "$(<"$system/golden/$first.prompt")" \
	>/run/long.text 2>/run/long.err &
long=$!
check "update: a client is being answered" wait_for 300 test -s /run/long.text
check "update: activate" m4ctl firmware activate "$new"
equal "update: generation" "$(attribute generation)" "$((generation + 1))"
equal "update: digest" "$(attribute digest)" "$new"
check "update: new clients meet the new image" wait_for 600 serves "$new"
if wait "$long"; then
	ok "update: the old client is answered to the end"
else
	not_ok "update: the old client is answered to the end" "$(</run/long.err)"
fi
check "update: the service is another process" test "$(daemon_pid)" != "$pid"
check "update: the unit stays active" active m4d.service
check "update: the old process goes" wait_for 600 test ! -d "/proc/$pid"
check "update: one generation is left" wait_for 60 shows generations 1
greedy "update: golden text of '$first'" "$first" 6

check "rollback: is loaded" m4ctl firmware rollback
equal "rollback: digest" "$(attribute digest)" "$old"
check "rollback: clients meet the old image" wait_for 600 serves "$old"
check "rollback: one generation is left" wait_for 600 shows generations 1

# Taken back by hand while m4d serves it.
pid=$(daemon_pid)
check "revoke: by hand" request revoke
check "revoke: status tells" wait_for 60 shows_json '"model_state":"revoked"' status
fails_with "revoke: a request fails and says why" "revoked" \
	timeout 300 m4ctl --socket "$socket" run --greedy --max-tokens 4 "Once"
equal "revoke: m4d lives" "$(daemon_pid)" "$pid"
check "revoke: the unit stays active" active m4d.service
check "revoke: it is loaded again" m4ctl firmware load
check "revoke: m4d serves it" wait_for 600 serves "$old"
greedy "revoke: golden text of '$first' afterwards" "$first" 6

# The floor: not below what was said, once the newer one is current.
check "floor: the newer image again" m4ctl firmware activate "$new"
check "floor: clients meet it" wait_for 600 serves "$new"
check "floor: one generation is left" wait_for 600 shows generations 1
check "floor: is raised to its index" m4ctl firmware floor --raise "$(attribute rollback_index)"
fails_with "floor: rollback is refused" "below the floor" m4ctl firmware rollback
equal "floor: what was served stays" "$(attribute state) $(attribute digest)" "ready $new"

check "trust: the service stops" systemctl stop m4d.socket m4d.service
check "trust: the module unloads" wait_for 60 rmmod m4

# A boot: floor and image come out of the store.
check "boot: the firmware service" systemctl start m4-firmware.service
equal "boot: state" "$(attribute state)" ready
equal "boot: digest" "$(attribute digest)" "$new"
equal "boot: floor" "$(attribute rollback_floor)" "$(attribute rollback_index)"
check "boot: the module unloads" wait_for 60 rmmod m4
rm -rf /lib/firmware/m4
