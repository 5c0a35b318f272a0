#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/vm/build-guest.sh KIND: the root disk of a kind of guest, made once:
# prints the folder that holds root.img (ext4). It knows neither kernel nor M4:
# build-kernel.sh brings the one on a disk of its own, run.sh the other.
#
# Packages come from this machine's own apt sources. Without root it needs
# subordinate user ids.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/vm/kernels.sh
. "$here/kernels.sh"
kind_row "${1:?usage: build-guest.sh KIND}"

options=(
	--quiet
	--aptopt='APT::Install-Recommends "false"'
	--aptopt='Acquire::Languages "none"'
	--dpkgopt='path-exclude=/usr/share/man/*'
	--dpkgopt='path-exclude=/usr/share/locale/*'
	--dpkgopt='path-exclude=/usr/share/doc/*'
)
case $root_kind in
full)
	mib=1200
	packages=(
		systemd systemd-sysv udev dbus kmod
		# what our programs link or load
		libstdc++6 libsystemd0 libdrm2 libvulkan1 mesa-vulkan-drivers
		libflatbuffers2 libsentencepiece0 libutf8proc2 libseccomp2 libsoxr0 libkissfft-float131
		libsndfile1 libspng0 libturbojpeg0
	)
	options+=(--variant=minbase)
	;;
small)
	# Unpacked only: no program of the guest runs here, so it may be of
	# another architecture.
	mib=400
	packages=(bash coreutils util-linux mount kmod udev mawk grep sed findutils
		dash libc-bin base-files base-passwd diffutils gzip hostname procps)
	options+=(--variant=extract "--architectures=$arch")
	;;
esac

# Everything that starts by itself and is not the subject of a test.
quiet_units=(apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
	e2scrub_all.timer e2scrub_reap.service fstrim.timer getty@tty1.service
	serial-getty@ttyS0.service systemd-pcrphase.service
	systemd-pcrphase-sysinit.service systemd-tmpfiles-clean.timer)

# shellcheck disable=SC2016,SC2034 # the scripts of a shell of their own
full_root='
	install -m 644 "$here/guest.service" "$root/etc/systemd/system/m4-guest.service"
	mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
	ln -s ../m4-guest.service "$root/etc/systemd/system/multi-user.target.wants/"
	for unit in "$@"; do
		ln -sf /dev/null "$root/etc/systemd/system/$unit"
	done
'
# What maintainer scripts would have done.
# shellcheck disable=SC2016,SC2034
small_root='
	cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
	cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
	[ -e "$root/usr/bin/awk" ] || ln -s mawk "$root/usr/bin/awk"
	[ -e "$root/bin/sh" ] || ln -s dash "$root/bin/sh"
	install -m 755 "$here/init.sh" "$root/sbin/init"
	mkdir -p "$root/proc" "$root/sys" "$root/run" "$root/tmp" "$root/dev"
'

build() {
	local dir=$1 sources steps=${root_kind}_root
	mapfile -t sources < <(debian_sources)
	if [ ${#sources[@]} -eq 0 ]; then
		echo "build-guest: no apt source for Debian $suite on this machine"
		return 1
	fi
	echo "build-guest: $root_kind Debian $suite, $arch (once)"
	if ! mmdebstrap "${options[@]}" --include="$(IFS=,; echo "${packages[*]}")" \
		"$suite" "$dir/root.tar" "${sources[@]}" >"$dir/mmdebstrap.log" 2>&1; then
		tail -n 30 "$dir/mmdebstrap.log"
		return 1
	fi
	# shellcheck disable=SC2016
	as_root sh -eu -c '
		dir=$1 here=$2 mib=$3 root=$1/root
		shift 3
		mkdir "$root"
		tar -C "$root" --exclude="./dev/*" -xf "$dir/root.tar"
		rm -rf "$root/boot" "$root/var/cache" "$root/var/lib/apt"
		echo m4-guest >"$root/etc/hostname"
		: >"$root/etc/machine-id"
		'"${!steps}"'
		mkdir -p "$root/m4" "$root/lib/modules" "$root/lib/firmware"
		mke2fs -q -t ext4 -L m4root -m 0 -d "$root" "$dir/root.img" "${mib}M" >/dev/null
		rm -rf "$root" "$dir/root.tar"
	' sh "$dir" "$here" "$mib" "${quiet_units[@]}"
	touch "$dir/complete"
}

cached "root-$root_kind-$arch" \
	"$suite $arch $(cat "$0" "$here/guest.service" "$here/init.sh")" build
