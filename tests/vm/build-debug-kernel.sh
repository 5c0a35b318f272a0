#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/vm/build-debug-kernel.sh DIR: build the kernel of debug.config from
# Debian's linux-source, some 15 minutes on two cores; build-kernel.sh calls it.
# DIR gets release, tree (boot/, lib/modules/) and kdir, to build modules against.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?usage: build-debug-kernel.sh DIR}
jobs=${JOBS:-$(nproc)}

archive=$(find /usr/src -maxdepth 1 -name 'linux-source-6.1.tar.xz')
if [ -z "$archive" ]; then
	echo "build-debug-kernel: the package linux-source-6.1 is not installed" >&2
	exit 1
fi
echo "build-debug-kernel: Linux 6.1 with KASAN, lockdep and fault injection (once; some 15 minutes)"
source=$dir/source kdir=$dir/kdir
mkdir -p "$source" "$kdir"
tar -C "$source" --strip-components=1 -xJf "$archive"
make_kernel() { nice -n 19 make -s -C "$source" O="$kdir" "$@"; }

{
	make_kernel tinyconfig
	grep -E '^(# )?CONFIG_' "$here/debug.config" >>"$kdir/.config"
	make_kernel olddefconfig
} >"$dir/config.log" 2>&1 || {
	cat "$dir/config.log"
	exit 1
}
if grep -E '^(# )?CONFIG_' "$here/debug.config" | grep -vxFf "$kdir/.config"; then
	echo "build-debug-kernel: these lines of debug.config did not last"
	exit 1
fi
make_kernel -j "$jobs" bzImage modules >"$dir/build.log" 2>&1 || {
	tail -n 30 "$dir/build.log"
	exit 1
}

release=$(cat "$kdir/include/config/kernel.release")
tree=$dir/tree
mkdir -p "$tree/boot"
make_kernel modules_install INSTALL_MOD_PATH="$tree" INSTALL_MOD_STRIP=1 >>"$dir/build.log" 2>&1
cp "$kdir/arch/x86/boot/bzImage" "$tree/boot/vmlinuz-$release"
echo "$release" >"$dir/release"

# Modules need the makefiles, headers and programs; the rest is two gigabytes.
find "$kdir" \( -name '*.o' -o -name '*.a' -o -name '*.cmd' -o -name 'vmlinux*' -o -name '*.ko' \) \
	-not -path "$kdir/scripts/*" -not -path "$kdir/tools/*" -not -name Module.symvers -delete
rm -rf "$kdir/arch/x86/boot"
find "$source" -mindepth 1 -maxdepth 1 -not -name 'Makefile*' -not -name 'Kbuild*' -not -name include \
	-not -name scripts -not -name arch -not -name tools -exec rm -rf {} +
find "$source/arch" -mindepth 1 -maxdepth 1 -not -name x86 -exec rm -rf {} +
find "$source/arch/x86" -name '*.[cS]' -delete
find "$source/tools" -mindepth 1 -maxdepth 1 -not -name objtool -not -name include -not -name build \
	-not -name lib -not -name scripts -exec rm -rf {} +
touch "$dir/complete"
