/* SPDX-License-Identifier: Apache-2.0 */
/* Software MSI (behaviour.md R6.5, R6.8): one IOVA for a doorbell page in every table of the context. */
#include "driver_rig.h"

#define WINDOW 0x8000000ull
#define DOORBELL 0xfd200040ull

static struct rig rig;
static struct iof_machine *m;
static struct iof_iommu *iommu;
static struct iof_handle *ctx;
static unsigned plugged;

static void setup(void)
{
	rig_init(&rig);
	plugged = 0;
	m = machine_with(IOF_PRESET_INTEL, NULL, 0, NULL);
	CHECK(m);
	CHECK_EQ(iof_machine_add_driver(m, &rig_driver, &rig, &iommu), 0);
	CHECK_EQ(iof_engine_open(m, &ctx), 0);
}

static void teardown(void)
{
	CHECK(iof_machine_is_valid(m));
	iof_close(ctx);
	iof_machine_put(m);
}

static struct iof_handle *device(struct iof_range window, bool hw_msi)
{
	struct iof_device_caps caps = { .sw_msi = window, .hw_msi = hw_msi, .priv = &rig.dev[plugged++] };
	struct iof_handle *dev;
	uint32_t index;

	CHECK_EQ(iof_machine_plug_device(m, iommu, UINT32_MAX, &caps, &index), 0);
	CHECK_EQ(iof_engine_bind(ctx, index, &dev), 0);
	return dev;
}

static uint64_t shown(uint32_t hwpt, uint64_t iova)
{
	uint64_t address;

	CHECK(iof_translate(ctx, hwpt, 1, &iova, &address, NULL) >= 0);
	return address;
}

TEST(a_doorbell_has_one_address_in_every_table)
{
	struct iof_range window = { WINDOW, WINDOW + 0xfffff };
	struct iof_handle *a, *b;
	uint32_t first, second, ha, hb, hc;
	uint64_t iova;

	setup();
	a = device(window, false);
	b = device(window, false);
	CHECK_EQ(ioas_alloc(ctx, &first), 0);
	CHECK_EQ(ioas_alloc(ctx, &second), 0);
	CHECK_EQ(iof_msi_address(a, DOORBELL, &iova), -EINVAL);
	CHECK_EQ(attach(a, first, &ha), 0);
	CHECK_EQ(attach(b, second, &hb), 0);
	CHECK_EQ(iof_msi_address(a, DOORBELL, &iova), 0);
	CHECK_EQ(iova, WINDOW + (DOORBELL & 0xfff));
	CHECK_EQ(shown(ha, iova), DOORBELL);
	CHECK_EQ(shown(hb, iova), UINT64_MAX);
	CHECK_EQ(iof_msi_address(b, DOORBELL + 0x5000, &iova), 0);
	CHECK_EQ(iova, WINDOW + 0x1000 + (DOORBELL & 0xfff));
	CHECK_EQ(iof_msi_address(b, DOORBELL + 4, &iova), 0);
	CHECK_EQ(iova, WINDOW + (DOORBELL & 0xfff) + 4);
	CHECK_EQ(shown(hb, iova), DOORBELL + 4);
	CHECK(iof_machine_is_valid(m));
	/* The pages go with the group to its next table; back in the old one they are there already. */
	CHECK_EQ(attach(b, first, &hc), 0);
	CHECK_EQ(hc, ha);
	CHECK_EQ(shown(ha, WINDOW + 0x1000 + (DOORBELL & 0xfff)), DOORBELL + 0x5000);
	CHECK(iof_machine_is_valid(m));
	CHECK_EQ(detach(a), 0);
	CHECK_EQ(attach(a, second, &hc), 0);
	CHECK_EQ(shown(hc, WINDOW), DOORBELL & ~0xfffull);
	iof_close(a);
	iof_close(b);
	teardown();
}

TEST(the_window_is_reserved)
{
	struct iof_handle *dev;
	uint64_t iova = WINDOW;
	char *buf = pages_of(1);
	uint32_t ioas;

	setup();
	dev = device((struct iof_range){ WINDOW, WINDOW + 0xfffff }, false);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	CHECK_EQ(attach(dev, ioas, NULL), -EADDRINUSE);
	CHECK_EQ(unmap(ctx, ioas, iova, PAGE, NULL), 0);
	CHECK_EQ(attach(dev, ioas, NULL), 0);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), -EINVAL);
	CHECK_EQ(detach(dev), 0);
	CHECK_EQ(map_at(ctx, ioas, buf, PAGE, RW | IOF_MAP_FIXED_IOVA, &iova), 0);
	iof_close(dev);
	teardown();
}

TEST(limits)
{
	struct iof_handle *small, *large, *both, *none;
	uint64_t iova;
	uint32_t ioas;

	setup();
	small = device((struct iof_range){ WINDOW, WINDOW + 0x1fff }, false);
	large = device((struct iof_range){ 2 * WINDOW, 2 * WINDOW + 0xfffff }, false);
	both = device((struct iof_range){ WINDOW, WINDOW + 0xfffff }, true);
	none = device((struct iof_range){ 0, 0 }, true);
	CHECK_EQ(ioas_alloc(ctx, &ioas), 0);
	CHECK_EQ(attach(both, ioas, NULL), -EINVAL);
	CHECK_EQ(attach(small, ioas, NULL), 0);
	CHECK_EQ(attach(large, ioas, NULL), 0);
	CHECK_EQ(attach(none, ioas, NULL), 0);
	CHECK_EQ(iof_msi_address(none, DOORBELL, &iova), 0);
	CHECK_EQ(iova, DOORBELL);
	for (uint64_t i = 0; i < 2; i++)
		CHECK_EQ(iof_msi_address(small, DOORBELL + i * PAGE, &iova), 0);
	CHECK_EQ(iof_msi_address(small, DOORBELL + 2 * PAGE, &iova), -EOVERFLOW);
	for (uint64_t i = 0; i < 62; i++)
		CHECK_EQ(iof_msi_address(large, DOORBELL + i * PAGE, &iova), 0);
	CHECK_EQ(iof_msi_address(large, DOORBELL + 62 * PAGE, &iova), -EOVERFLOW);
	CHECK_EQ(iof_msi_address(large, DOORBELL + 61 * PAGE, &iova), 0);
	CHECK_EQ(iova, 2 * WINDOW + 61 * PAGE + (DOORBELL & 0xfff));
	iof_close(small);
	iof_close(large);
	iof_close(both);
	iof_close(none);
	teardown();
}
