#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# symbols_test.sh BUILD: libm4client.so exports what symbols.txt lists, no more
# and no less, declares it in its header, and needs no library an app lacks; so
# libm4client_media.so with symbols_media.txt, which needs the decoders, too.
set -euo pipefail
build=$(realpath "${1:?usage: symbols_test.sh BUILD}")
cd "$(dirname "$0")"
runtimes='libstdc\+\+|libm|libgcc_s|libc|libasan|libubsan|libtsan|ld-linux[^.]*'
status=0

# check LIBRARY LIST NEEDED: NEEDED is a pattern of the libraries it may need.
check() {
	local library=$build/lib/$1.so header=../../libm4client/include/${1#lib}.h
	local listed exported declared soname needed

	listed=$(grep -v '^#' "$2" | sort)
	exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort)
	if ! diff <(echo "$listed") <(echo "$exported"); then
		echo "exported symbols (>) differ from tests/abi/$2 (<)"
		status=1
	fi

	# A function of the header that the library lacks, or the other way round.
	declared=$(sed 's,//.*,,' "$header" | tr '\n' ' ' |
		sed 's,/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/,,g' |
		grep -oE '\bm4_[a-z_]+\(' | tr -d '(' | sort -u | grep -v '^m4_init_struct$')
	if ! diff <(echo "$declared") <(echo "$exported" | cut -d@ -f1); then
		echo "exported symbols (>) differ from the functions of $header (<)"
		status=1
	fi

	soname=$(objdump -p "$library" | awk '$1 == "SONAME" { print $2 }')
	if [ "$soname" != "$1.so.0" ]; then
		echo "SONAME is $soname"
		status=1
	fi
	needed=$(objdump -p "$library" | awk '$1 == "NEEDED" { print $2 }' |
		grep -vE "^($3)\.so\.[0-9]+\$" || true)
	if [ -n "$needed" ]; then
		echo "$1 needs more than it may:" "$needed"
		status=1
	fi
}
check libm4client symbols.txt "$runtimes"
check libm4client_media symbols_media.txt "$runtimes|libsndfile|libspng|libturbojpeg"
exit $status
