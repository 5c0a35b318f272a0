#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/vm/build-kernel.sh KIND: what a guest of this kind boots, made once.
# Prints the folder that holds it:
#
#   release      what uname -r says
#   vmlinuz
#   initrd       busybox and the modules of the root disk
#   modules.img  /lib/modules, an ext4 image
#   kdir         the tree to build modules against
#
# Nothing is installed: Debian's packages come by an apt of its own out of this
# machine's sources, into the cache (kernels.sh). A cached kernel stays as it is
# until M4_VM_REFRESH=1 asks for the one that Debian offers today.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/vm/kernels.sh
. "$here/kernels.sh"
kind_row "${1:?usage: build-kernel.sh KIND}"

# Modules of the root disk, by the names that modprobe knows.
root_disk=(virtio_pci virtio_blk ext4 crc32c)
# Drivers that a test may want; the rest of them stays out of the guest.
drivers=(block char dma-buf gpu/drm/vgem uio vfio virtio tty hwtracing iommu)

# apt-get and apt-cache with their own state, for our and the guest's architecture
private_apt() {
	local dir=$1
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/sources"
	local sources
	mapfile -t sources < <(debian_sources)
	if [ ${#sources[@]} -eq 0 ]; then
		echo "build-kernel: no apt source for Debian $suite on this machine"
		return 1
	fi
	cp "${sources[@]}" "$dir/sources/"
	: >"$dir/status"
	cat >"$dir/apt.conf" <<-CONF
		Dir::State "$dir";
		Dir::State::status "$dir/status";
		Dir::Cache "$dir/cache";
		Dir::Etc::SourceList "/dev/null";
		Dir::Etc::SourceParts "$dir/sources";
		#clear APT::Architectures;
		APT::Architectures { "amd64"; "$arch"; };
		APT::Sandbox::User "root";
		APT::Get::List-Cleanup "false";
		Acquire::Languages "none";
		Debug::NoLocking "true";
	CONF
	export APT_CONFIG=$dir/apt.conf
	apt-get update -qq
}

depends() { apt-cache depends "$1" | sed -nE 's/^ *\|?(Pre)?Depends: //p'; }

# debian_kernel WORK: WORK/tree gets the packages, WORK/release is written.
debian_kernel() {
	local work=$1 image release packages package
	private_apt "$work/apt"
	image=$(depends "$kernel:$arch" | grep -m 1 '^linux-image-[0-9]')
	image=${image%:*}
	release=${image#linux-image-}
	echo "build-kernel: $arch, Linux $release from Debian (once)"
	packages=("$image:$arch" "linux-headers-$release:$arch")
	while read -r package; do
		package=${package//[<>]/} # how apt writes one that another architecture provides
		package=${package%:*}
		case $package in
		linux-headers-*-common) packages+=("$package") ;;
		linux-kbuild-*) packages+=("$package:amd64") ;;
		esac
	done < <(depends "linux-headers-$release:$arch")
	packages+=("busybox-static:$arch")
	mkdir "$work/debs" "$work/tree"
	(cd "$work/debs" && apt-get download -qq "${packages[@]}")
	for package in "$work"/debs/*.deb; do dpkg -x "$package" "$work/tree"; done
	echo "$release" >"$work/release"
}

# modules_image MODULES RELEASE DIR: MODULES is the folder that lies in
# /lib/modules; afterwards it is pruned, unpacked and indexed.
modules_image() {
	local modules=$1 release=$2 dir=$3 keep kept
	kept=$(mktemp -d "$dir/kept.XXXXXX")
	if [ -d "$modules/kernel/drivers" ]; then
		(
			cd "$modules/kernel/drivers"
			for keep in "${drivers[@]}"; do
				[ ! -d "$keep" ] || cp -a --parents "$keep" "$kept/"
			done
			# the helpers beside the drivers of GPUs, not these
			[ ! -d gpu/drm ] || find gpu/drm -maxdepth 1 -type f -exec cp -a --parents {} "$kept/" \;
		)
		rm -rf "$modules/kernel/drivers" "$modules/kernel/sound"
		mv "$kept" "$modules/kernel/drivers"
	fi
	rm -rf "$kept"
	rm -f "$modules/build" "$modules/source"
	find "$modules" -name '*.ko.xz' -exec xz -d {} +
	sed -i 's/\.ko\.xz$/.ko/' "$modules/modules.order"
	depmod -b "${modules%/lib/modules/*}" "$release"
	mke2fs -q -t ext4 -L m4modules -m 0 -E root_owner=0:0 -d "$(dirname "$modules")" \
		"$dir/modules.img" "$(($(du -sm "$modules" | cut -f 1) * 5 / 4 + 64))M" >/dev/null
}

# initrd TREE RELEASE DIR: of our own, for an emulated machine takes longer to
# unpack the distribution's than for the whole rest of its boot.
initrd() {
	local tree=$1 release=$2 dir=$3 work busybox line
	work=$(mktemp -d "$dir/initrd.XXXXXX")
	mkdir "$work/bin" "$work/lib" "$work/proc" "$work/sys" "$work/dev" "$work/root"
	busybox=$tree/bin/busybox
	[ -x "$busybox" ] || busybox=$(command -v busybox)
	cp "$busybox" "$work/bin/busybox"
	install -m 755 "$here/initrd-init.sh" "$work/init"
	: >"$work/lib/order"
	for line in "${root_disk[@]}"; do
		modprobe -d "$tree" -S "$release" --show-depends "$line"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r line; do
		cp "$line" "$work/lib/"
		basename "$line" >>"$work/lib/order"
	done
	(cd "$work" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$dir/initrd"
	rm -rf "$work"
}

# assemble TREE RELEASE DIR: from an unpacked kernel to the files named above.
assemble() {
	local tree=$1 release=$2 dir=$3
	cp "$tree/boot/vmlinuz-$release" "$dir/vmlinuz"
	modules_image "$tree/lib/modules/$release" "$release" "$dir"
	initrd "$tree" "$release" "$dir"
	echo "$release" >"$dir/release"
}

from_debian() {
	local dir=$1 release common
	mkdir "$dir/work"
	debian_kernel "$dir/work"
	release=$(cat "$dir/work/release")
	assemble "$dir/work/tree" "$release" "$dir"
	# Headers find each other and kbuild's programs by relative links; all but
	# the one that says where the common part is.
	mkdir -p "$dir/usr/lib"
	mv "$dir/work/tree/usr/src" "$dir/usr/"
	mv "$dir/work/tree"/usr/lib/linux-kbuild-* "$dir/usr/lib/"
	common=$(find "$dir/usr/src" -name "linux-headers-*-common" | grep .)
	echo "include $common/Makefile" >"$dir/usr/src/linux-headers-$release/Makefile"
	ln -s "usr/src/linux-headers-$release" "$dir/kdir"
	rm -rf "$dir/work"
	touch "$dir/complete"
}

from_source() {
	local dir=$1
	cp -a "$built/tree" "$dir/work"
	assemble "$dir/work" "$(cat "$built/release")" "$dir"
	ln -s "$built/kdir" "$dir/kdir"
	rm -rf "$dir/work"
	touch "$dir/complete"
}

# refresh NAME KEY: forget what is cached, where that is wanted.
refresh() {
	[ -z "${M4_VM_REFRESH:-}" ] || rm -f "$(cached_dir "$1" "$2")/complete"
}

name=kernel-${kernel#linux-image-}
key="$kernel $arch $(cat "$0" "$here/initrd-init.sh")"
builder=from_debian
if [ "$kernel" = debug ]; then
	built=$(cat "$here/build-debug-kernel.sh" "$here/debug.config")
	refresh linux-debug "$built"
	built=$(cached linux-debug "$built" "$here/build-debug-kernel.sh")
	key+=$built
	builder=from_source
fi
refresh "$name" "$key"
cached "$name" "$key" "$builder"
