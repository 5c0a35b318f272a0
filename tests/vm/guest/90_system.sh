# SPDX-License-Identifier: MIT
# needs: systemd
# The whole of it: an app's first connection makes systemd start m4d, which
# answers from the weights that the module verified and pinned.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
system=$art/system
socket=/run/m4/m4d.sock

if [ -e "$system/absent" ]; then
	skip "system: socket activation to golden text" "$(<"$system/absent")"
	exit 0
fi

# Users before rules, as a package does: udev looks up group m4 when it reads
# the rule, and reads it as soon as it is there.
find "$system/root" -path '*/sysusers.d/*.conf' -exec systemd-sysusers {} +
cp -a "$system/root/." /
install -D "$art/m4.ko" "/lib/modules/$(uname -r)/extra/m4.ko"
depmod -a
ldconfig
systemctl daemon-reload
systemd-tmpfiles --create >/dev/null 2>&1
udevadm control --reload
mkdir -p "$(dirname "$firmware")"
ln -sfn "$system/image" "$firmware"

active() { systemctl is-active --quiet "$1"; }
inactive() { ! systemctl is-active --quiet "$1"; }
ctl() { m4ctl --socket "$socket" "$@"; }
daemon_pid() { systemctl show --property=MainPID --value m4d.service; }
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
greedy() {
	local prompt text out
	prompt=$(<"$system/golden/$1.prompt")
	text=$(<"$system/golden/$1.text")
	if ! out=$(timeout 600 m4ctl --socket "$socket" run --greedy --max-tokens "$2" "$prompt" 2>/run/ctl.err); then
		not_ok "system: golden text of '$1'" "m4ctl: $(tail -n 3 /run/ctl.err)"
		systemctl status --no-pager -n 30 m4d.service
	elif [ -n "$out" ] && [[ $text == "$prompt$out"* ]]; then
		echo "# $prompt|$out"
		ok "system: golden text of '$1'"
	else
		not_ok "system: golden text of '$1'" "'$out' does not follow '$prompt'"
	fi
}
start=$SECONDS
names=("$system"/golden/*.prompt)
greedy "$(basename "${names[0]}" .prompt)" 12
echo "# first connection to twelve tokens: $((SECONDS - start)) s"
check "system: the connection started the daemon" active m4d.service
if inactive m4d.service; then
	exit 0 # everything below would say the same again
fi
for name in "${names[@]:1}"; do
	greedy "$(basename "$name" .prompt)" 24
done

pid=$(daemon_pid)
check "system: the daemon maps the node" grep -q "$node" "/proc/$pid/maps"
mapped_kib=$(awk -v node="$node" '$6 == node { on = 1 } $1 ~ /-/ && $6 != node { on = 0 }
	on && $1 == "FilePmdMapped:" { kib += $2 } END { print kib + 0 }' "/proc/$pid/smaps")
echo "# the daemon maps $mapped_kib kB by 2 MiB pages"
check "system: by 2 MiB pages" test "$mapped_kib" -ge 2048
check "system: the daemon is not root" test "$(stat -c %u "/proc/$pid")" -ne 0
digest=$(attribute digest)
matches "system: m4ctl names the kernel's digest" "$(ctl firmware show --json 2>&1)" "*$digest*"
matches "system: no weight was copied" "$(ctl status --json 2>&1)" '*"copied_bytes":0,*'
fails_with "system: the module stays while m4d runs" "in use" rmmod m4

check "system: the service stops" systemctl stop m4d.service
check "system: the socket stays" active m4d.socket
start=$SECONDS
greedy "$(basename "${names[0]}" .prompt)" 6
echo "# second start to six tokens: $((SECONDS - start)) s"
check "system: the next connection started it again" active m4d.service
systemctl stop m4d.socket m4d.service
check "system: the module unloads" wait_for 60 rmmod m4
