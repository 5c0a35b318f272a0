// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who may sign an image: the certificates built into the module (certs.sh
 * makes m4_certs.h of them), and nobody else.
 *
 * The keyring .m4 shows their keys to user space, which has no right to link
 * to it. What verifies is a second keyring for each key, holding it alone, so
 * that the one which accepted a signature is known. All of it is made before
 * the first load and only read from then on.
 */
#include <keys/asymmetric-type.h>
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/key.h>
#include <linux/verification.h>

#include "m4.h"

struct m4_cert {
	const u8 *bytes; /* X.509 in DER */
	size_t count;
	bool development;
};

#include "m4_certs.h" /* m4_certs[], ended by an empty one; M4_CERT_COUNT */

#define RING_PERM (KEY_POS_ALL & ~KEY_POS_SETATTR)
#define SHOWN_PERM (RING_PERM | KEY_USR_VIEW | KEY_USR_READ)

static struct key *m4_keyring;
static struct m4_anchor m4_anchors[M4_CERT_COUNT + 1];
static u32 m4_anchor_count;

static struct key *m4_ring_alloc(const char *name, key_perm_t perm)
{
	return keyring_alloc(name, KUIDT_INIT(0), KGIDT_INIT(0),
			     current_cred(), perm, KEY_ALLOC_NOT_IN_QUOTA,
			     NULL, NULL);
}

static int __init m4_anchor_add(const struct m4_cert *cert)
{
	struct m4_anchor *anchor = &m4_anchors[m4_anchor_count];
	struct key *ring = m4_ring_alloc(".m4_anchor", RING_PERM);
	key_ref_t key;
	int rc;

	if (IS_ERR(ring))
		return PTR_ERR(ring);
	anchor->ring = ring;
	m4_anchor_count++; /* m4_keys_exit takes it from here */
	key = key_create_or_update(make_key_ref(ring, true), "asymmetric",
				   NULL, cert->bytes, cert->count, SHOWN_PERM,
				   KEY_ALLOC_NOT_IN_QUOTA | KEY_ALLOC_BUILT_IN);
	if (IS_ERR(key))
		return PTR_ERR(key);
	anchor->key = key_ref_to_ptr(key);
	anchor->name = anchor->key->description;
	anchor->development = cert->development;
	rc = key_link(m4_keyring, anchor->key);
	if (rc)
		return rc;
	if (anchor->development)
		pr_warn("m4: trusts a development key, %s\n", anchor->name);
	else
		pr_info("m4: trusts %s\n", anchor->name);
	return 0;
}

int __init m4_keys_init(void)
{
	const struct m4_cert *cert;
	struct key *ring = m4_ring_alloc(".m4", SHOWN_PERM);
	int rc;

	if (IS_ERR(ring))
		return PTR_ERR(ring);
	m4_keyring = ring;
	for (cert = m4_certs; cert->bytes; cert++) {
		rc = m4_anchor_add(cert);
		if (rc) {
			pr_err("m4: built-in certificate %zu cannot be used (%d)\n",
			       cert - m4_certs, rc);
			return rc;
		}
	}
	if (m4_keys_empty())
		pr_warn("m4: built without a certificate, refuses every image\n");
	return 0;
}

void m4_keys_exit(void)
{
	while (m4_anchor_count) {
		struct m4_anchor *anchor = &m4_anchors[--m4_anchor_count];

		key_put(anchor->key);
		key_put(anchor->ring);
	}
	key_put(m4_keyring);
	m4_keyring = NULL;
}

bool m4_keys_empty(void)
{
	return !m4_anchor_count;
}

int m4_keys_verify(const void *bytes, size_t count, const void *sig,
		   size_t sig_count, const struct m4_anchor **out)
{
	int rc = -ENOKEY;
	u32 i;

	for (i = 0; i < m4_anchor_count; i++) {
		const struct m4_anchor *anchor = &m4_anchors[i];
		int one;

		/* no keyring would mean the kernel's own */
		if (WARN_ON(IS_ERR_OR_NULL(anchor->ring)))
			return -ENOKEY;
		one = verify_pkcs7_signature(bytes, count, sig, sig_count,
					     anchor->ring,
					     VERIFYING_UNSPECIFIED_SIGNATURE,
					     NULL, NULL);
		if (!one) {
			*out = anchor;
			return 0;
		}
		if (one != -ENOKEY)
			rc = one; /* tells more than "not by this one" */
	}
	return rc;
}
