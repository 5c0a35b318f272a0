# SPDX-License-Identifier: MIT
# Sourced by every case file of the guest. A case reports with ok, not_ok or
# skip: one line each, on standard output. Conditions are polled, never slept
# for; the limits are generous because the machine is emulated.
# shellcheck shell=bash disable=SC2119,SC2120 # the case files pass arguments
art=/m4
node=/dev/m4/backbone
sys=/sys/class/m4/backbone
firmware=/lib/firmware/m4/backbone
map_test=$art/guest/m4_map_test
export art node sys firmware map_test

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1: $2"; }
skip() { echo "skip $1: $2"; }

# check NAME COMMAND...: ok where the command succeeds.
check() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		ok "$name"
	else
		not_ok "$name" "$* gave $?: ${out//$'\n'/ | }"
	fi
}

# equal NAME GOT WANTED
equal() {
	if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "'$2', wanted '$3'"; fi
}

# matches NAME GOT PATTERN (a shell pattern)
matches() {
	# shellcheck disable=SC2053 # the pattern is meant as one
	if [[ $2 == $3 ]]; then ok "$1"; else not_ok "$1" "'$2', wanted '$3'"; fi
}

# fails_with NAME TEXT COMMAND...: the command fails and says TEXT.
fails_with() {
	local name=$1 text=$2 out
	shift 2
	if out=$(LC_ALL=C "$@" 2>&1); then
		not_ok "$name" "it was allowed"
	else
		matches "$name" "$out" "*$text*"
	fi
}

# wait_for SECONDS COMMAND...
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

# prefixed PREFIX COMMAND...: passes the reports of a test program on, each
# case named behind the prefix. A program that dies is a failure of its own.
prefixed() {
	local prefix=$1 status
	shift
	"$@" | sed -E "s/^(ok|not ok|skip) /\1 $prefix: /"
	status=${PIPESTATUS[0]}
	[ "$status" -le 1 ] || not_ok "$prefix" "$* exited with $status"
}

use_image() {
	mkdir -p "$(dirname "$firmware")"
	ln -sfn "$art/images/$1" "$firmware"
}

# link_image FOLDER: an image that a case made itself.
link_image() {
	mkdir -p "$(dirname "$firmware")"
	ln -sfn "$1" "$firmware"
}

attribute() { cat "$sys/$1" 2>/dev/null; }

# shows ATTRIBUTE VALUE
shows() { [ "$(attribute "$1")" = "$2" ]; }

settled() {
	case $(attribute state) in
	ready | error | revoked) return 0 ;;
	*) return 1 ;;
	esac
}

# image_copy NAME: a copy of an image, to be altered, in $copy.
copy=/run/m4-copy
image_copy() {
	rm -rf "$copy"
	mkdir "$copy"
	cp "$art/images/$1"/* "$copy/"
}

# flip FILE OFFSET: turns the lowest bit of a byte.
flip() {
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1") || return 1
	printf '%b' "\\0$(printf '%o' $((byte ^ 1)))" |
		dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

# Lines of the kernel log that the module wrote of its image; the firmware
# loader's, of which Debian's writes one a read, are not among them.
log_lines() { dmesg | grep 'm4 backbone: ' | grep -vci 'firmware\|direct-load'; }

# request FILE: writes 1 to a file of the image in sysfs.
request() { echo 1 >"$sys/$1"; }

# load_image NAME: asks for a load and waits until it is decided.
load_image() {
	use_image "$1"
	echo 1 >"$sys/load" && wait_for 300 settled
}

# Each case file begins with the module as it needs it, whatever ran before.
no_module() { [ ! -d /sys/module/m4 ] || rmmod m4; }
load_module() { no_module && insmod "$art/m4.ko" "$@"; }

# ready_image NAME: a freshly loaded module with this image.
ready_image() {
	load_module && load_image "$1" && [ "$(attribute state)" = ready ]
}

# What is free, with the pages that processors keep at hand: a freed 2 MiB page
# waits there first.
free_kib() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
	awk '$1 == "MemFree:" { kib += $2 } $1 == "count:" { kib += $2 * 4 }
		END { print kib }' /proc/meminfo /proc/zoneinfo
}

# scrub_pass: hashes every chunk of what is pinned again, and waits for the end.
scrub_pass() {
	local passes
	passes=$(attribute scrubs)
	echo 1 >"$sys/scrub" && wait_for 300 scrubbed_since "$passes"
}
scrubbed_since() { [ "$(attribute scrubs)" -gt "$1" ]; }

# scrub_is_clean NAME: a whole pass finds nothing.
scrub_is_clean() {
	local errors
	errors=$(attribute scrub_errors)
	if ! scrub_pass; then
		not_ok "$1" "no pass was made"
	else
		equal "$1" "$(attribute scrub_errors) $(attribute state)" "$errors ready"
	fi
}

# What follows is for the cases of the whole system: $system is what
# stage-system.sh laid out.
system=$art/system
socket=/run/m4/m4d.sock

# install_system: lays what the build installs over this root.
install_system() {
	# Users before rules, as a package does: udev looks up group m4 when it
	# reads the rule, and reads it as soon as it is there.
	find "$system/root" -path '*/sysusers.d/*.conf' -exec systemd-sysusers {} +
	cp -a "$system/root/." /
	install -D "$art/m4.ko" "/lib/modules/$(uname -r)/extra/m4.ko"
	depmod -a
	ldconfig
	systemctl daemon-reload
	systemd-tmpfiles --create >/dev/null 2>&1
	udevadm control --reload
}

active() { systemctl is-active --quiet "$1"; }
inactive() { ! systemctl is-active --quiet "$1"; }
ctl() { m4ctl --socket "$socket" "$@"; }
daemon_pid() { systemctl show --property=MainPID --value m4d.service; }

# greedy CASE NAME TOKENS: the text that follows a golden prompt.
greedy() {
	local prompt text out
	prompt=$(<"$system/golden/$2.prompt")
	text=$(<"$system/golden/$2.text")
	if ! out=$(timeout 600 m4ctl --socket "$socket" run --greedy --max-tokens "$3" "$prompt" 2>/run/ctl.err); then
		not_ok "$1" "m4ctl: $(tail -n 3 /run/ctl.err)"
		systemctl status --no-pager -n 30 m4d.service
	elif [ -n "$out" ] && [[ $text == "$prompt$out"* ]]; then
		echo "# $prompt|$out"
		ok "$1"
	else
		not_ok "$1" "'$out' does not follow '$prompt'"
	fi
}
