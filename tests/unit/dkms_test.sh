#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# dkms_test.sh BUILD: what is installed for DKMS builds m4.ko, with the
# certificates it is given, by make alone and by dkms where that is installed.
# Nothing outside a scratch folder changes.
set -euo pipefail
build=$(realpath "${1:?usage: dkms_test.sh BUILD}")
kernel=$(find /lib/modules -maxdepth 2 -name build 2>/dev/null | sort -V | tail -n 1)
[ -n "$kernel" ] || { echo "no kernel headers"; exit 77; }
release=$(basename "$(dirname "$kernel")")
command -v openssl >/dev/null || { echo "no openssl program"; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

DESTDIR=$scratch/root cmake --install "$build" --component dkms >/dev/null
conf=$(find "$scratch/root" -name dkms.conf)
source=$(dirname "$conf")
version=${source##*/m4-}
case $source in
*/usr/src/m4-[0-9]*) ;;
*) echo "installed to ${source#"$scratch"/root}"; exit 1 ;;
esac

mkdir "$scratch/certs"
"$build/bin/m4fw" keygen --common-name "dkms test one" --out "$scratch/one" >/dev/null
"$build/bin/m4fw" keygen --common-name "dkms test two" --out "$scratch/two" >/dev/null
cp "$scratch/one/m4.crt" "$scratch/certs/one.crt"
cp "$scratch/two/m4.crt" "$scratch/certs/two.crt"

# As dkms reads it.
export M4_CERTS_DIR=$scratch/certs kernel_source_dir=$kernel
# shellcheck disable=SC1090
. "$conf"
[ "$PACKAGE_VERSION" = "$version" ]

check_module() {
	local name
	for name in "dkms test one" "dkms test two"; do
		grep -q -a "$name" "$1" || { echo "$1: lacks the certificate '$name'"; exit 1; }
	done
	! grep -q -a 'PRIVATE KEY' "$1"
}
cp -r "$source" "$scratch/tree"
(cd "$scratch/tree" && eval "${MAKE[0]}") >"$scratch/log" 2>&1 || {
	cat "$scratch/log"
	exit 1
}
check_module "$scratch/tree/${BUILT_MODULE_LOCATION[0]}/${BUILT_MODULE_NAME[0]}.ko"
(cd "$scratch/tree" && eval "$CLEAN")

command -v dkms >/dev/null || { echo "built by make; dkms is not installed"; exit 0; }
mkdir "$scratch/dkms"
# It signs modules, with a key of the machine's unless told of another.
export mok_signing_key=$scratch/mok.key mok_certificate=$scratch/mok.pub
dkms build -m m4 -v "$version" -k "$release" --kernelsourcedir "$kernel" \
	--dkmstree "$scratch/dkms" --sourcetree "$scratch/root/usr/src" >"$scratch/log" 2>&1 || {
	cat "$scratch/log" "$scratch"/dkms/m4/*/build/make.log 2>/dev/null
	exit 1
}
module=$(find "$scratch/dkms" -path '*/module/m4.ko*' | head -n 1)
case $module in
*.ko) check_module "$module" ;;
'') echo "dkms built no module"; exit 1 ;;
esac
echo "built by make and by dkms"
