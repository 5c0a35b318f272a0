#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# symbols_test.sh BUILD: libm4client.so exports what symbols.txt lists, no more
# and no less, declares it in its header, and needs no library an app lacks.
set -euo pipefail
build=$(realpath "${1:?usage: symbols_test.sh BUILD}")
cd "$(dirname "$0")"
library=$build/lib/libm4client.so
header=../../libm4client/include/m4client.h
status=0

listed=$(grep -v '^#' symbols.txt | sort)
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort)
if ! diff <(echo "$listed") <(echo "$exported"); then
	echo "exported symbols (>) differ from tests/abi/symbols.txt (<)"
	status=1
fi

# A function of the header that the library lacks, or the other way round.
declared=$(sed 's,//.*,,' "$header" | tr '\n' ' ' | sed 's,/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/,,g' |
	grep -oE '\bm4_[a-z_]+\(' | tr -d '(' | sort -u | grep -v '^m4_init_struct$')
if ! diff <(echo "$declared") <(echo "$exported" | cut -d@ -f1); then
	echo "exported symbols (>) differ from the functions of m4client.h (<)"
	status=1
fi

soname=$(objdump -p "$library" | awk '$1 == "SONAME" { print $2 }')
if [ "$soname" != libm4client.so.0 ]; then
	echo "SONAME is $soname"
	status=1
fi
needed=$(objdump -p "$library" | awk '$1 == "NEEDED" { print $2 }' |
	grep -vE '^(libstdc\+\+|libm|libgcc_s|libc|libasan|libubsan|libtsan|ld-linux[^.]*)\.so\.[0-9]+$' || true)
if [ -n "$needed" ]; then
	echo "needs more than the C and C++ runtimes: $needed"
	status=1
fi
exit $status
