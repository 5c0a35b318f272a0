# SPDX-License-Identifier: MIT
# Sourced: the kinds of guest that run.sh knows, and what each is made of.
# shellcheck shell=bash disable=SC2034 # for those who source it
#
#   kernel  a Debian package that depends on the kernel of the day, or "debug":
#           built here from linux-source-6.1 and debug.config
#   root    full (systemd; the daemon's libraries) or small (bash, coreutils,
#           udev; init.sh is the first process)
#   MiB     the guest's memory
#   cases   shell patterns of case files, comma between them; * for all
#   has     what the guest offers. A case file that says "# needs: WORD..." runs
#           where all of these are; WORD is also HAS_WORD=1 in the case's
#           environment.
kinds='
# kind       arch   kernel                       root   MiB   cases            has
cloud-6.1    amd64  linux-image-cloud-amd64      full   6144  *                systemd bigmem
cloud-6.12   amd64  linux-image-6.12-cloud-amd64 full   2048  *                systemd
generic-6.1  amd64  linux-image-amd64            small  2048  *                vgem edu iommu
stock        amd64  linux-image-cloud-amd64      small  2048  10*,20*
debug-6.1    amd64  debug                        small  2048  *                vgem edu iommu debug
arm64-6.1    arm64  linux-image-cloud-arm64      small  2048  *
'
# The words that "has" may say.
features='systemd bigmem vgem edu iommu debug'
# The kernel's words for trouble, whoever caused it.
complaints='WARNING:|BUG:|BUG [a-z]|kernel BUG|KASAN:|UBSAN:|suspicious RCU|corruption|Oops'
complaints+='|[Cc]all [Tt]race|possible (circular|recursive)|general protection|INFO: task|rcu:.*stall'
# What make vm-test runs.
default_kinds=cloud-6.1,cloud-6.12,generic-6.1

# kind_row NAME: sets kind, arch, kernel, root_kind, mib, cases, has.
kind_row() {
	while read -r kind arch kernel root_kind mib cases has; do
		[ "$kind" != "$1" ] || return 0
	done <<<"$kinds"
	echo "no such kind of guest: $1" >&2
	return 1
}

suite=bookworm
vm_cache=${M4_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/m4}/vm

# make variables of a kernel build for this architecture
kbuild_arch() {
	case $1 in
	amd64) echo "ARCH=x86" ;;
	arm64) echo "ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-" ;;
	esac
}

cached_dir() { echo "$vm_cache/$1-$(sha256sum <<<"$2" | cut -c 1-16)"; }

# cached NAME KEY BUILDER...: prints the cache folder of NAME made from KEY;
# where it is missing, BUILDER... DIR fills it. Other versions of NAME that no
# run has used for a month go.
cached() {
	local name=$1 dir old
	dir=$(cached_dir "$1" "$2")
	shift 2
	mkdir -p "$vm_cache"
	if [ ! -e "$dir/complete" ]; then
		exec 9>"$vm_cache/$name.lock"
		flock 9 # two at once would make everything twice
		if [ ! -e "$dir/complete" ]; then
			as_root rm -rf "$dir"
			mkdir "$dir"
			"$@" "$dir" >&2
		fi
		exec 9>&-
	fi
	touch "$dir/complete"
	find "$vm_cache" -mindepth 2 -maxdepth 2 -path "$vm_cache/$name-*/complete" -mtime +30 |
		while read -r old; do as_root rm -rf "${old%/complete}"; done
	echo "$dir"
}

# The apt sources of this machine that speak of the suite.
debian_sources() {
	local file
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		if [ -s "$file" ] && grep -qw "$suite" "$file"; then echo "$file"; fi
	done
}

# As root, or as root of a user namespace of our own.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		unshare --map-root-user --map-auto -- "$@"
	fi
}
