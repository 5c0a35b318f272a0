#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/vm/run.sh BUILD [CASE-PATTERN]: run the kernel module, and with it the
# whole system, in a Debian guest under QEMU. Prints each case and closes with
# "N passed, N failed, N skipped". Kernel code runs nowhere else.
#
# BUILD is a build tree; what it holds of m4d, m4ctl and m4fw goes into the
# guest. CASE-PATTERN picks files of guest/ (say '40*'). Everything this makes
# lies in BUILD/vm: console.log, results.txt, the staged artifacts.
#
#   M4_VM_TIMEOUT   seconds for the whole guest (default 1500)
#   M4_CACHE_DIR    see build-guest.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "${1:?usage: run.sh BUILD [CASE-PATTERN]}"
build=$(cd "$1" && pwd)
pattern=${2:-[0-9]*}
vm=$build/vm
stage=$vm/stage
limit=${M4_VM_TIMEOUT:-1500}

headers=$(find /lib/modules -maxdepth 2 -name build -path '*-cloud-amd64/*' | sort -V | tail -n 1)
if [ -z "$headers" ]; then
	echo "run.sh: no linux-headers-cloud-amd64 on this machine" >&2
	exit 1
fi
release=$(basename "$(dirname "$headers")")
guest=$("$here/build-guest.sh" "$release")

rm -rf "$vm"
mkdir -p "$stage/guest" "$vm/keys"

# A development key made on the spot: the module trusts it, the images carry it.
openssl req -x509 -newkey rsa:3072 -nodes -sha256 -days 30 \
	-subj "/CN=M4 development" -keyout "$vm/keys/dev.key" \
	-out "$vm/keys/dev.crt" 2>"$vm/keys/openssl.log"

make -s -C "$root/kmod" KDIR="$headers" BUILD="$build/kmod" \
	M4_DEV_CERT="$vm/keys/dev.crt" modules >"$vm/kmod.log" 2>&1 || {
	cat "$vm/kmod.log" >&2
	exit 1
}
cp "$build/kmod/m4.ko" "$stage/"

cp "$here"/guest/main.sh "$here"/guest/lib.sh "$stage/guest/"
find "$here/guest" -name "$pattern.sh" -exec cp {} "$stage/guest/" \;
cc -static -O1 -Wall -Wextra -o "$stage/guest/m4_map_test" "$here/guest/m4_map_test.c"

"$here/make-images.sh" "$stage" "$vm/keys"
"$here/stage-system.sh" "$build" "$stage"

mib=$(($(du -sm "$stage" | cut -f 1) * 5 / 4 + 32))
mke2fs -q -t ext4 -m 0 -d "$stage" "$vm/artifacts.img" "${mib}M" >"$vm/mke2fs.log" 2>&1

: >"$vm/results.txt"
# snapshot=on: the guest's writes go to a file that QEMU deletes.
TMPDIR=$vm timeout --foreground -k 10 "$limit" qemu-system-x86_64 \
	-accel tcg -M q35 -cpu max,cx16=off -smp 2 -m 2G \
	-nodefaults -no-reboot -display none \
	-kernel "$guest/vmlinuz" -initrd "$guest/initrd" \
	-append "console=ttyS0 root=/dev/vda rw panic=-1 systemd.show_status=0 systemd.unit=multi-user.target" \
	-drive "file=$guest/root.img,format=raw,if=virtio,snapshot=on" \
	-drive "file=$vm/artifacts.img,format=raw,if=virtio,readonly=on" \
	-serial "file:$vm/console.log" \
	-device virtio-serial \
	-chardev "file,id=results,path=$vm/results.txt" \
	-device virtserialport,chardev=results,name=m4.results \
	-device virtio-rng >"$vm/qemu.log" 2>&1 &
qemu=$!
trap 'kill "$qemu" 2>/dev/null || true' EXIT
tail -f -n +1 --pid="$qemu" "$vm/results.txt" | sed -u "/^done$/d"
status=0
wait "$qemu" || status=$?
trap - EXIT

count() { grep -c "^$1 " "$vm/results.txt" || true; }
passed=$(count ok)
failed=$(count 'not ok')
skipped=$(count skip)
if ! grep -qx 'done' "$vm/results.txt"; then
	failed=$((failed + 1))
	case $status in
	124 | 137) echo "not ok guest: not done after $limit s" ;;
	*) echo "not ok guest: ended early (QEMU's status $status)" ;;
	esac
	cat "$vm/qemu.log"
	tail -n 40 "$vm/console.log"
fi
if [ "$failed" -ne 0 ]; then
	echo "failed:"
	grep '^not ok' "$vm/results.txt" || true
	echo "console: ${vm#"$PWD"/}/console.log"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
