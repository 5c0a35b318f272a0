// SPDX-License-Identifier: GPL-2.0-only
/* The manifest checker as the daemon and the packer compile it. Included, so
 * that its object lies with the module's and not in the firmware folder.
 */
#include <firmware/manifest.c>
