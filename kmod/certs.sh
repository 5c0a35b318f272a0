#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# certs.sh CERT... [-- DEV-CERT...]: certificates, PEM or DER, as the C that
# m4_keys.c includes. Those behind -- are marked as development keys.
set -eu

fail() {
	echo "certs.sh: $1" >&2
	exit 1
}

count=0
table=
development=false
for cert in "$@"; do
	if [ "$cert" = -- ]; then
		development=true
		continue
	fi
	[ -r "$cert" ] || fail "$cert: no such file"
	form=DER
	if grep -q -e '-----BEGIN CERTIFICATE-----' "$cert"; then
		form=PEM
		[ "$(grep -c -e '-----BEGIN' "$cert")" = 1 ] ||
			fail "$cert: more than one certificate, or a key"
	fi
	openssl x509 -inform $form -in "$cert" -noout 2>/dev/null ||
		fail "$cert: no X.509 certificate"
	echo "static const u8 m4_cert_${count}[] __initconst = {"
	openssl x509 -inform $form -in "$cert" -outform DER |
		od -An -v -tx1 | sed 's/ \(..\)/0x\1,/g'
	echo "};"
	table="$table	{ m4_cert_$count, sizeof(m4_cert_$count), $development },
"
	count=$((count + 1))
done
echo "static const struct m4_cert m4_certs[] __initconst = {"
printf '%s' "$table"
echo "	{ NULL, 0, false },"
echo "};"
echo "#define M4_CERT_COUNT $count"
