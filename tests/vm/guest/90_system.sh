# SPDX-License-Identifier: MIT
# needs: systemd
# The whole of it: an app's first connection makes systemd start m4d, which
# answers from the weights that the module verified and pinned.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh

if [ -e "$system/absent" ]; then
	skip "system: socket activation to golden text" "$(<"$system/absent")"
	exit 0
fi

install_system
link_image "$system/image"

node_is_grouped() { [ "$(stat -c '%a %U %G' "$node")" = "440 root m4" ]; }

no_module
check "system: modprobe" modprobe m4 autoload=1
check "system: the image is decided" wait_for 300 settled
equal "system: state" "$(attribute state)" ready
check "system: udev gives the node to group m4" wait_for 60 node_is_grouped
check "system: the socket unit starts" systemctl start m4d.socket
check "system: the socket is there" test -S "$socket"
check "system: no daemon before the first connection" inactive m4d.service

# The first connection builds every pipeline, on an emulated processor.
start=$SECONDS
names=("$system"/golden/*.prompt)
first=$(basename "${names[0]}" .prompt)
greedy "system: golden text of '$first'" "$first" 12
echo "# first connection to twelve tokens: $((SECONDS - start)) s"
check "system: the connection started the daemon" active m4d.service
if inactive m4d.service; then
	exit 0 # everything below would say the same again
fi
for name in "${names[@]:1}"; do
	name=$(basename "$name" .prompt)
	greedy "system: golden text of '$name'" "$name" 24
done

pid=$(daemon_pid)
check "system: the daemon maps the node" grep -q "$node" "/proc/$pid/maps"
mapped_kib=$(awk -v node="$node" '$6 == node { on = 1 } $1 ~ /-/ && $6 != node { on = 0 }
	on && $1 == "FilePmdMapped:" { kib += $2 } END { print kib + 0 }' "/proc/$pid/smaps")
echo "# the daemon maps $mapped_kib kB by 2 MiB pages"
check "system: by 2 MiB pages" test "$mapped_kib" -ge 2048
check "system: the daemon is not root" test "$(stat -c %u "/proc/$pid")" -ne 0
digest=$(attribute digest)
shown=$(ctl firmware show --json 2>/run/ctl.err)
matches "system: m4ctl names the kernel's digest" "$shown" "*\"digest\":\"$digest\"*"
matches "system: m4ctl names who signed it" "$shown" '*"signer":"M4 development: '*
matches "system: m4ctl names a development key" "$shown" '*"development":true*'
matches "system: m4ctl warns of it" "$(</run/ctl.err)" "*DEVELOPMENT KEY*"
matches "system: m4ctl names the generation" "$shown" '*"generation":1,*'
matches "system: m4ctl names the state" "$shown" '*"state":"ready"*'
verified=$(ctl firmware verify --json 2>&1)
matches "system: the kernel hashes every byte again for m4ctl" "$verified" "*\"match\":true*"
matches "system: and that found nothing altered" "$verified" '*"errors":0*'
matches "system: no weight was copied" "$(ctl status --json 2>&1)" '*"copied_bytes":0,*'
# The check's own process, under the unit's filter: it must come to a verdict.
head -c 4096 /dev/zero >/run/no.m4ad
refused=$(ctl adapter check /run/no.m4ad --json 2>&1)
matches "system: a file that is no adapter is refused by its check" "$refused" '*"accepted":false*'
matches "system: which reads it to say why" "$refused" '*"reason":"adapter*'
fails_with "system: the module stays while m4d runs" "in use" rmmod m4

check "system: the service stops" systemctl stop m4d.service
check "system: the socket stays" active m4d.socket
start=$SECONDS
greedy "system: golden text of '$first' again" "$first" 6
echo "# second start to six tokens: $((SECONDS - start)) s"
check "system: the next connection started it again" active m4d.service
systemctl stop m4d.socket m4d.service
check "system: the module unloads" wait_for 60 rmmod m4
