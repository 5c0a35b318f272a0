#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# kmod/lint.sh: checkpatch --strict over the kernel's sources and the manifest
# checker, then a build under W=1 and sparse. Any message is a failure.
# M4_LINT_KDIR names further kernel build trees to build against.
#
# checkpatch comes out of the linux-source package, once, into the cache.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${M4_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/m4}/checkpatch

if [ ! -s "$cache/checkpatch.pl" ]; then
	source=$(find /usr/src -maxdepth 1 -name 'linux-source-*.tar.xz' | sort -V | tail -n 1)
	if [ -z "$source" ]; then
		echo "kmod/lint.sh: checkpatch needs the package linux-source-6.1" >&2
		exit 1
	fi
	mkdir -p "$cache"
	scratch=$(mktemp -d "$cache/XXXXXX")
	tar -C "$scratch" -xf "$source" --strip-components=2 --wildcards \
		'*/scripts/checkpatch.pl' '*/scripts/spelling.txt' '*/scripts/const_structs.checkpatch'
	mv "$scratch"/spelling.txt "$scratch"/const_structs.checkpatch "$cache/"
	mv "$scratch/checkpatch.pl" "$cache/"
	rmdir "$scratch"
fi

# Where it looks for the names that the kernel itself spells in camel case.
headers=$(find /lib/modules -maxdepth 2 -name source | sort -V | tail -n 1)

status=0
checkpatch() {
	(cd "$cache" && perl checkpatch.pl --no-tree --root="$headers" --strict --terse --quiet --no-summary \
		--max-line-length=80 "$@") || status=1
}
sources=()
for file in "$root"/kmod/*.[ch] "$root"/firmware/manifest.c "$root"/firmware/include/m4/*.h; do
	case ${file##*/} in
	m4_compat.h) # the one place that asks for versions
		checkpatch --ignore LINUX_VERSION_CODE,CONSTANT_COMPARISON -f "$file" ;;
	image.h) # user space has no BIT(), and _Static_assert is a keyword
		checkpatch --ignore BIT_MACRO,CAMELCASE -f "$file" ;;
	m4_trace.h) # the form that trace events have
		checkpatch --ignore PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE -f "$file" ;;
	*) sources+=("$file") ;;
	esac
done
checkpatch -f "${sources[@]}"

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

# Against the newest kernel headers of each series that are installed, with a
# certificate as a development build has one.
openssl req -x509 -newkey rsa:3072 -nodes -sha256 -days 1 -subj "/CN=lint" \
	-keyout "$build/dev.key" -out "$build/dev.crt" 2>/dev/null
lint_build() {
	local log=$build/log.$2
	make -s -C "$root/kmod" KDIR="$1" BUILD="$build/$2" W=1 C=2 \
		M4_DEV_CERT="$build/dev.crt" modules >"$log" 2>&1 || status=1
	if grep -v '^Skipping BTF generation' "$log"; then
		status=1
	fi
}
series=
for headers in $(find /lib/modules -maxdepth 2 -name build | sort -Vr) ${M4_LINT_KDIR:-}; do
	version=$(cut -d . -f 1-2 "$headers/include/config/kernel.release")
	case " $series " in
	*" $version "*) ;;
	*)
		series="$series $version"
		lint_build "$headers" "$version"
		;;
	esac
done
exit $status
