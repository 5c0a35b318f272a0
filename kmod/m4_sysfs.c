// SPDX-License-Identifier: GPL-2.0-only
/* /sys/class/m4/<name>/: docs/kernel-module.md is the contract. */
#include <linux/kstrtox.h>
#include <linux/sysfs.h>

#include "m4.h"

#define M4_ABI_VERSION 1

static struct m4_image *to_image(struct device *dev)
{
	return container_of(dev, struct m4_image, dev);
}

static ssize_t abi_version_show(struct device *dev,
				struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", M4_ABI_VERSION);
}

static ssize_t state_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	struct m4_image *image = to_image(dev);
	ssize_t length;

	mutex_lock(&image->lock);
	length = sysfs_emit(buf, "%s\n", m4_state_names[image->state]);
	mutex_unlock(&image->lock);
	return length;
}

static ssize_t error_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	struct m4_image *image = to_image(dev);
	ssize_t length;

	mutex_lock(&image->lock);
	length = sysfs_emit(buf, "%s\n", image->error);
	mutex_unlock(&image->lock);
	return length;
}

static ssize_t pinned_bytes_show(struct device *dev,
				 struct device_attribute *attr, char *buf)
{
	struct m4_image *image = to_image(dev);

	return sysfs_emit(buf, "%lld\n", atomic64_read(&image->pinned_bytes));
}

/* Attributes of the generation served; -ENODATA where there is none. */
typedef int (*m4_emit_fn)(const struct m4_generation *gen, char *buf);

static ssize_t emit_generation(struct device *dev, char *buf, m4_emit_fn emit)
{
	struct m4_generation *gen = m4_image_get_generation(to_image(dev));
	ssize_t length;

	if (!gen)
		return -ENODATA;
	length = emit(gen, buf);
	m4_generation_put(gen);
	return length;
}

static int emit_version(const struct m4_generation *gen, char *buf)
{
	return sysfs_emit(buf, "%s\n", gen->manifest.header->version);
}

static ssize_t version_show(struct device *dev, struct device_attribute *attr,
			    char *buf)
{
	return emit_generation(dev, buf, emit_version);
}

static int emit_payload_bytes(const struct m4_generation *gen, char *buf)
{
	return sysfs_emit(buf, "%llu\n", gen->manifest.payload_bytes);
}

static ssize_t payload_bytes_show(struct device *dev,
				  struct device_attribute *attr, char *buf)
{
	return emit_generation(dev, buf, emit_payload_bytes);
}

static int emit_digest(const struct m4_generation *gen, char *buf)
{
	return sysfs_emit(buf, "%*phN\n", M4_IMAGE_DIGEST_BYTES,
			  gen->manifest.digest);
}

static ssize_t digest_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	return emit_generation(dev, buf, emit_digest);
}

static int emit_root_hash(const struct m4_generation *gen, char *buf)
{
	return sysfs_emit(buf, "%*phN\n", M4_IMAGE_DIGEST_BYTES,
			  gen->manifest.header->root);
}

static ssize_t root_hash_show(struct device *dev,
			      struct device_attribute *attr, char *buf)
{
	return emit_generation(dev, buf, emit_root_hash);
}

/* Asks for a load and returns; `state` tells how it went. */
static ssize_t load_store(struct device *dev, struct device_attribute *attr,
			  const char *buf, size_t count)
{
	bool wanted;
	int rc = kstrtobool(buf, &wanted);

	if (rc)
		return rc;
	if (!wanted)
		return -EINVAL;
	rc = m4_image_request_load(to_image(dev));
	return rc ? rc : (ssize_t)count;
}

static DEVICE_ATTR_RO(abi_version);
static DEVICE_ATTR_RO(state);
static DEVICE_ATTR_RO(error);
static DEVICE_ATTR_RO(pinned_bytes);
static DEVICE_ATTR_RO(version);
static DEVICE_ATTR_RO(payload_bytes);
static DEVICE_ATTR_RO(digest);
static DEVICE_ATTR_RO(root_hash);
static DEVICE_ATTR_WO(load);

static struct attribute *m4_image_attrs[] = {
	&dev_attr_abi_version.attr,
	&dev_attr_state.attr,
	&dev_attr_error.attr,
	&dev_attr_pinned_bytes.attr,
	&dev_attr_version.attr,
	&dev_attr_payload_bytes.attr,
	&dev_attr_digest.attr,
	&dev_attr_root_hash.attr,
	&dev_attr_load.attr,
	NULL,
};

static const struct attribute_group m4_image_group = {
	.attrs = m4_image_attrs,
};

const struct attribute_group *m4_image_groups[] = {
	&m4_image_group,
	NULL,
};
