#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/vm/run.sh BUILD [--kind KIND[,KIND...]] [CASE-PATTERN]: run the kernel
# module, and with it the whole system, in guests under QEMU. Prints each case
# behind the guest's kind and closes with "N passed, N failed, N skipped".
# Kernel code runs nowhere else.
#
# BUILD is a build tree; what it holds of m4d, m4ctl and m4fw goes into guests
# that have systemd. The kinds are in kernels.sh; CASE-PATTERN picks files of
# guest/ (say '40*'). Everything this makes lies in BUILD/vm, and for each kind
# in BUILD/vm/KIND: console.log, results.txt, the module.
#
#   M4_VM_TIMEOUT   seconds for one guest (default 1500, debug kernels 7200)
#   M4_VM_REFRESH   take the kernels that Debian offers today
#   M4_CACHE_DIR    see kernels.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/vm/kernels.sh
. "$here/kernels.sh"

usage="usage: run.sh BUILD [--kind KIND[,KIND...]] [CASE-PATTERN]"
mkdir -p "${1:?$usage}"
build=$(cd "$1" && pwd)
shift
wanted=$default_kinds
pattern='*'
while [ $# -gt 0 ]; do
	case $1 in
	--kind)
		wanted=${2:?$usage}
		shift
		;;
	*) pattern=$1 ;;
	esac
	shift
done
IFS=, read -ra wanted <<<"$wanted"
for kind in "${wanted[@]}"; do kind_row "$kind"; done

vm=$build/vm
stage=$vm/stage
exec 8>"$build/vm.lock"
if ! flock -n 8; then
	echo "run.sh: another run uses $vm" >&2
	exit 1
fi

has() { [[ " $has " == *" $1 "* ]]; }

# What no run has made before; its minutes are not those of the tests.
for kind in "${wanted[@]}"; do
	"$here/build-kernel.sh" "$kind" >/dev/null
	"$here/build-guest.sh" "$kind" >/dev/null
done

start=$SECONDS
rm -rf "$vm"
mkdir -p "$stage" "$vm/keys"

# A development key made on the spot: the module trusts it, the images carry it.
openssl req -x509 -newkey rsa:3072 -nodes -sha256 -days 30 \
	-subj "/CN=M4 development" -keyout "$vm/keys/dev.key" \
	-out "$vm/keys/dev.crt" 2>"$vm/keys/openssl.log"
"$here/make-images.sh" "$stage" "$vm/keys"
for kind in "${wanted[@]}"; do
	kind_row "$kind"
	if has systemd && [ ! -d "$stage/system" ]; then
		"$here/stage-system.sh" "$build" "$stage"
	fi
done
echo "# images and system staged in $((SECONDS - start)) s"

# chosen FILE: may this case file run on the present kind?
chosen() {
	local name=${1##*/} need one
	local -a patterns
	# shellcheck disable=SC2053 # the pattern is meant as one
	[[ ${name%.sh} == $pattern || $name == $pattern ]] || return 1
	while read -r need; do
		has "$need" || return 1
	done < <(sed -n 's/^# needs: //p' "$1" | tr ' ' '\n')
	IFS=, read -ra patterns <<<"$cases"
	for one in "${patterns[@]}"; do
		# shellcheck disable=SC2053
		[[ $name != $one ]] || return 0
	done
	return 1
}

# stage_kind DIR: the module, the cases and their programs, kind.env.
stage_kind() {
	local dir=$1 file word kdir cc=cc
	local -a kbuild
	[ "$arch" = amd64 ] || cc=aarch64-linux-gnu-gcc
	kdir=$("$here/build-kernel.sh" "$kind")/kdir
	read -ra kbuild <<<"$(kbuild_arch "$arch")"
	make -s -C "$root/kmod" "${kbuild[@]}" KDIR="$kdir" BUILD="$dir/kmod" \
		M4_DEV_CERT="$vm/keys/dev.crt" modules >"$dir/kmod.log" 2>&1 || {
		cat "$dir/kmod.log"
		return 1
	}
	cp "$dir/kmod/m4.ko" "$stage/"

	rm -rf "$stage/guest"
	mkdir "$stage/guest"
	cp "$here"/guest/main.sh "$here"/guest/lib.sh "$stage/guest/"
	for file in "$here"/guest/[0-9]*.sh; do
		if chosen "$file"; then cp "$file" "$stage/guest/"; fi
	done
	for file in "$here"/guest/*.c; do
		$cc -static -O1 -Wall -Wextra -I"$root/kmod/include/uapi" \
			-o "$stage/guest/$(basename "$file" .c)" "$file" || return 1
	done
	# Modules that only tests load; objects beside copies of their sources, for
	# Linux 6.12 knows no other way.
	if [ -e "$here/guest/kmod/Kbuild" ]; then
		cp -r "$here/guest/kmod" "$dir/test-kmod"
		make -s -C "$kdir" "${kbuild[@]}" M="$dir/test-kmod" \
			KBUILD_EXTRA_SYMBOLS="$dir/kmod/Module.symvers" \
			modules >"$dir/test-kmod.log" 2>&1 || {
			cat "$dir/test-kmod.log"
			return 1
		}
		cp "$dir"/test-kmod/*.ko "$stage/guest/"
	fi
	{
		echo "KIND=$kind"
		echo "ARCH=$arch"
		echo "MEM_MIB=$mib"
		for word in $features; do
			if has "$word"; then echo "HAS_${word^^}=1"; else echo "HAS_${word^^}=0"; fi
		done
		if has debug; then echo IS_DEBUG=1; else echo IS_DEBUG=0; fi
		printf 'COMPLAINTS=%q\n' "$complaints"
	} >"$stage/kind.env"
	mke2fs -q -t ext4 -m 0 -d "$stage" "$dir/artifacts.img" \
		"$(($(du -sm "$stage" | cut -f 1) * 5 / 4 + 64))M" >"$dir/mke2fs.log" 2>&1
}

# guest DIR: sets qemu, the command line of the present kind.
guest() {
	local dir=$1 boot disks append
	boot=$("$here/build-kernel.sh" "$kind")
	disks=$("$here/build-guest.sh" "$kind")
	append="root=/dev/vda rw panic=-1 systemd.show_status=0 systemd.unit=multi-user.target log_buf_len=4M"
	case $arch in
	amd64)
		qemu=(qemu-system-x86_64 -M q35 -cpu "max,cx16=off,la57=off")
		append="console=ttyS0 no_timer_check $append" # a busy host makes that check fail
		;;
	arm64)
		qemu=(qemu-system-aarch64 -M virt -cpu cortex-a72)
		append="console=ttyAMA0 $append"
		;;
	esac
	if has iommu; then
		qemu+=(-device "intel-iommu,intremap=off")
		append+=" intel_iommu=on iommu.strict=1"
	fi
	if has edu; then qemu+=(-device "edu,dma_mask=0xffffffff"); fi
	# A: may fail where 80_faults.sh says so; not what watches the others
	if has debug; then append+=" page_poison=1 slub_debug=FA;F,kmemleak_object,debug_objects_cache kmemleak=on"; fi
	# snapshot=on: the guest's writes go to a file that QEMU deletes.
	qemu+=(-accel tcg -smp 2 -m "$mib"
		-nodefaults -no-reboot -display none
		-kernel "$boot/vmlinuz" -initrd "$boot/initrd" -append "$append"
		-drive "file=$disks/root.img,format=raw,if=virtio,snapshot=on"
		-drive "file=$dir/artifacts.img,format=raw,if=virtio,readonly=on"
		-drive "file=$boot/modules.img,format=raw,if=virtio,snapshot=on"
		-serial "file:$dir/console.log"
		-device virtio-serial
		-chardev "file,id=results,path=$dir/results.txt"
		-device "virtserialport,chardev=results,name=m4.results"
		-device virtio-rng)
}

pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true' EXIT

report() { tee -a "$vm/results.txt"; }

# run_kind: runs the present kind's guest; each report bears its name.
run_kind() {
	local dir=$vm/$kind status=0 begun=$SECONDS limit=1500
	local -a qemu
	if has debug; then limit=7200; fi
	limit=${M4_VM_TIMEOUT:-$limit}
	mkdir "$dir"
	if ! stage_kind "$dir"; then
		echo "not ok $kind: the guest's disk was not made" | report
		return
	fi
	guest "$dir"
	: >"$dir/results.txt"
	TMPDIR=$dir timeout --foreground -k 10 "$limit" "${qemu[@]}" >"$dir/qemu.log" 2>&1 &
	pid=$!
	tail -f -n +1 --pid="$pid" "$dir/results.txt" |
		sed -uE "/^done$/d; s/^(ok|not ok|skip|#) /\1 $kind: /" | report
	wait "$pid" || status=$?
	pid=
	if ! grep -qx 'done' "$dir/results.txt"; then
		{
			sed 's/^/# /' "$dir/qemu.log"
			tail -n 40 "$dir/console.log" | sed 's/^/# /'
			case $status in
			124 | 137) echo "not ok $kind: guest: not done after $limit s" ;;
			*) echo "not ok $kind: guest: ended early (QEMU's status $status)" ;;
			esac
		} | report
	fi
	# What the guest's own look at its log cannot see: the end of it.
	if ! grep -q '^not ok kernel log' "$dir/results.txt" &&
		grep -aE "$complaints" "$dir/console.log" >"$dir/complaints"; then
		echo "not ok $kind: console: $(head -n 1 "$dir/complaints")" | report
	fi
	echo "# $kind took $((SECONDS - begun)) s" | report
	rm -f "$dir/artifacts.img"
}

for kind in "${wanted[@]}"; do
	kind_row "$kind"
	run_kind
done

count() { grep -c "^$1 " "$vm/results.txt" || true; }
failed=$(count 'not ok')
if [ "$failed" -ne 0 ]; then
	echo "failed:"
	grep '^not ok' "$vm/results.txt"
	echo "consoles: ${vm#"$PWD"/}/KIND/console.log"
fi
grep -E '^# [^ :]+ took [0-9]+ s$' "$vm/results.txt" || true
echo "$(count ok) passed, $failed failed, $(count skip) skipped"
[ "$failed" -eq 0 ]
