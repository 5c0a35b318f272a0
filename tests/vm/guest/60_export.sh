# SPDX-License-Identifier: MIT
# Windows of an image for devices: what they hold, and what an importer that
# does not mean well can do with them.
# shellcheck shell=bash disable=SC1091,SC2154
. ./lib.sh
export_test=$art/guest/m4_misuse_export

# A dma-buf holds its generation and the module, without node or mapping.
check "export: an image is ready" ready_image good
check "control: mode and owner" test "$(stat -c '%a %U' /dev/m4/control)" = "600 root"
equal "export: none at first" "$(attribute exports)" 0
mkfifo /run/export.in
"$export_test" hold "$node" </run/export.in >/run/export.out &
holder=$!
exec 5>/run/export.in
check "export: a process holds one" wait_for 60 grep -q held /run/export.out
equal "export: it is counted" "$(attribute exports)" 1
equal "export: no mapping is left" "$(attribute mappings)" 0
fails_with "export: rmmod is refused" "in use" rmmod m4
load_image good
equal "export: an update goes beside it" \
	"$(attribute state) $(attribute generation) $(attribute generations)" "ready 2 2"
fails_with "export: a third generation is refused" "Device or resource busy" request load
exec 5>&-
wait "$holder"
check "export: with it the old generation goes" wait_for 60 shows generations 1
equal "export: none is left" "$(attribute exports)" 0

# revoked_export NAME: what a revocation leaves of an export, for a device also.
revoked_export() {
	"$export_test" revoked "$node" </run/export.in >/run/export.out &
	holder=$!
	exec 5>/run/export.in
	check "$1: a process holds an export" wait_for 60 grep -q held /run/export.out
	check "$1: by hand" request revoke
	exec 5>&-
	wait "$holder"
	sed -E "/^held/d; s/^(ok|not ok|skip) revoked: /\1 $1: /" /run/export.out
}
revoked_export revoked
check "export: the module unloads" rmmod m4

if [ "${HAS_VGEM:-0}" = 1 ] && modprobe vgem; then
	udevadm settle
	check "vgem: an image is ready" ready_image good
	prefixed export "$export_test" vgem "$node" refused
	equal "vgem: no export is left" "$(attribute exports)" 0
	check "vgem: without the demand for an IOMMU" load_module require_iommu=0
	load_image good
	prefixed "export, no IOMMU asked for" "$export_test" vgem "$node" taken
	scrub_is_clean "vgem: the re-hash finds nothing"
	check "vgem: no export is left at the end" wait_for 60 shows exports 0
	check "vgem: the module unloads" rmmod m4
	rmmod vgem
else
	skip "export: vgem" "not in this guest"
fi

# QEMU's edu writes wherever its IOMMU lets it.
if [ "${HAS_EDU:-0}" = 1 ] && insmod "$art/guest/m4_edu.ko"; then
	check "edu: an image is ready" ready_image good
	check "edu: the driver made its node" wait_for 60 test -c /dev/m4-edu
	faults=$(dmesg | grep -c 'DMAR: .*DMA Write')
	if [ "${HAS_IOMMU:-0}" = 1 ]; then
		prefixed export "$export_test" edu "$node" taken
		check "edu: the IOMMU blocked a write" \
			test "$(dmesg | grep -c 'DMAR: .*DMA Write')" -gt "$faults"
	else
		prefixed export "$export_test" edu "$node" refused
	fi
	scrub_is_clean "edu: the re-hash finds nothing"
	[ "${HAS_IOMMU:-0}" = 0 ] || revoked_export "edu, revoked"
	check "edu: no export is left" wait_for 60 shows exports 0
	check "edu: the module unloads" rmmod m4
	rmmod m4_edu
else
	skip "export: edu" "not in this guest"
fi
