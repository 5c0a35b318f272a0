#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/vm/build-guest.sh KERNEL_RELEASE: build the guest of the VM tests once
# and print the folder that holds it: root.img (Debian with systemd, ext4),
# vmlinuz, initrd. It knows nothing of M4; run.sh brings that on a second disk.
#
# Cached under ${M4_CACHE_DIR:-${XDG_CACHE_HOME:-~/.cache}/m4}/vm/, named by a
# hash of what it is made from. Packages come from this machine's own apt
# sources. Without root it needs subordinate user ids.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
release=${1:?usage: build-guest.sh KERNEL_RELEASE}
cache=${M4_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/m4}/vm

suite=bookworm
root_mib=1600
packages=(
	"linux-image-$release"
	systemd systemd-sysv udev dbus kmod
	# what our programs link or load
	libstdc++6 libsystemd0 libdrm2 libvulkan1 mesa-vulkan-drivers
	libflatbuffers2 libsentencepiece0
)

key=$({
	echo "$suite $root_mib ${packages[*]}"
	cat "$0" "$here/guest.service" "$here/initrd-init.sh"
} | sha256sum | cut -c 1-16)
guest=$cache/$key
if [ -e "$guest/complete" ]; then
	echo "$guest"
	exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9 # two builds at once would fetch everything twice
if [ -e "$guest/complete" ]; then
	echo "$guest"
	exit 0
fi
work=$(mktemp -d "$cache/building.XXXXXX")
trap 'as_root rm -rf "$work"' EXIT

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		unshare --map-root-user --map-auto -- "$@"
	fi
}

sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
	[ -s "$file" ] && grep -qw "$suite" "$file" && sources+=("$file")
done
if [ ${#sources[@]} -eq 0 ]; then
	echo "build-guest: no apt source for Debian $suite on this machine" >&2
	exit 1
fi

echo "build-guest: Debian $suite, $release (once; about two minutes)" >&2
if ! mmdebstrap --variant=minbase --quiet \
	--include="$(IFS=,; echo "${packages[*]}")" \
	--aptopt='APT::Install-Recommends "false"' \
	--aptopt='Acquire::Languages "none"' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	"$suite" "$work/root.tar" "${sources[@]}" >"$work/mmdebstrap.log" 2>&1; then
	tail -n 30 "$work/mmdebstrap.log" >&2
	exit 1
fi

# Everything that starts by itself and is not the subject of a test.
quiet_units=(apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
	e2scrub_all.timer e2scrub_reap.service fstrim.timer getty@tty1.service
	serial-getty@ttyS0.service systemd-pcrphase.service
	systemd-pcrphase-sysinit.service systemd-tmpfiles-clean.timer)

# shellcheck disable=SC2016 # the script of a shell of its own
as_root sh -eu -c '
	work=$1 release=$2 here=$3 mib=$4
	shift 4
	mkdir "$work/root"
	tar -C "$work/root" --exclude="./dev/*" -xf "$work/root.tar"
	cp "$work/root/boot/vmlinuz-$release" "$work/vmlinuz"
	rm -rf "$work/root/boot" "$work/root/var/cache" "$work/root/var/lib/apt"
	echo m4-guest >"$work/root/etc/hostname"
	: >"$work/root/etc/machine-id"
	install -m 644 "$here/guest.service" "$work/root/etc/systemd/system/m4-guest.service"
	mkdir -p "$work/root/etc/systemd/system/multi-user.target.wants" "$work/root/m4"
	ln -s ../m4-guest.service "$work/root/etc/systemd/system/multi-user.target.wants/"
	for unit in "$@"; do
		ln -sf /dev/null "$work/root/etc/systemd/system/$unit"
	done
	mke2fs -q -t ext4 -L m4root -m 0 -d "$work/root" "$work/root.img" "${mib}M" >&2

	# A small initrd of our own: to unpack the one of the distribution takes
	# an emulated machine longer than the whole rest of its boot.
	modules=$work/root/usr/lib/modules/$release
	mkdir -p "$work/initrd/bin" "$work/initrd/lib" "$work/initrd/proc" \
		"$work/initrd/sys" "$work/initrd/dev" "$work/initrd/root"
	cp "$(command -v busybox)" "$work/initrd/bin/busybox"
	install -m 755 "$here/initrd-init.sh" "$work/initrd/init"
	for module in virtio_ring virtio virtio_pci_modern_dev \
		virtio_pci_legacy_dev virtio_pci virtio_blk; do
		cp "$(find "$modules" -name "$module.ko")" "$work/initrd/lib/"
	done
	(cd "$work/initrd" && find . | busybox cpio -o -H newc 2>/dev/null) |
		gzip -1 >"$work/initrd.img"
	rm -rf "$work/root" "$work/initrd" "$work/root.tar"
' sh "$work" "$release" "$here" "$root_mib" "${quiet_units[@]}"

mkdir -p "$guest"
mv "$work/root.img" "$work/vmlinuz" "$guest/"
mv "$work/initrd.img" "$guest/initrd"
touch "$guest/complete"
echo "$guest"
