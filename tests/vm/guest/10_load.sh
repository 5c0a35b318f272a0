# SPDX-License-Identifier: MIT
# From an empty module to a verified image, as sysfs, udev and the node tell it.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
. "$art/images/good.env"

property() { udevadm info --query=property --path="$sys" | grep -qxF "$1"; }

check "module: loads" load_module
check "module: node appears" wait_for 30 test -c "$node"
equal "empty: state" "$(attribute state)" empty
equal "empty: pinned_bytes" "$(attribute pinned_bytes)" 0
fails_with "empty: no digest" "No data available" cat "$sys/digest"
fails_with "empty: open" "No such device or address" cat "$node"
fails_with "empty: load takes no nonsense" "Invalid argument" \
	bash -c "echo maybe >$sys/load"
equal "node: mode and owner" "$(stat -c '%a %U' "$node")" "440 root"
equal "sysfs: load is for root" "$(stat -c %a "$sys/load")" 200

check "good: load is accepted" load_image good
equal "good: state" "$(attribute state)" ready
equal "good: error" "$(attribute error)" ""
equal "good: version" "$(attribute version)" "$version"
equal "good: digest" "$(attribute digest)" "$digest"
equal "good: root_hash" "$(attribute root_hash)" "$root_hash"
equal "good: payload_bytes" "$(attribute payload_bytes)" "$payload_bytes"
equal "good: pinned_bytes" "$(attribute pinned_bytes)" "$((payload_bytes + (2 << 20)))"
check "uevent: M4_STATE=ready reaches udev" wait_for 60 property M4_STATE=ready
check "uevent: M4_VERSION reaches udev" property "M4_VERSION=$version"
