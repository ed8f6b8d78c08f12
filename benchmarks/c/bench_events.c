/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event queues through their files: per record, from the report to the program that reads it (and, for faults, to
 * the raiser that hears the answer). 1000 ns_min would be 10^6 records a second.
 *
 *   batch/N: N records are reported, then read with as many calls of `room` records as it takes; one thread
 *   threads: a producer and a reader that sleeps in poll(2)
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "bench.h"
#include "ioas/fault.h"
#include "ioas/veventq.h"
#include "iommufd_fast.h"
#include "provider/engine.h"

#define RECORDS 16384
#define TYPE 1
#define EVENT_BYTES 32 /* an SMMUv3 event */

static struct iof_handle *ctx, *fault_file, *event_file;
static struct iof_fault *fault;
static struct iof_viommu viommu;
static struct iof_fault_record records[RECORDS];
static struct iof_fault_response responses[RECORDS];
static char stream[RECORDS * (8 + EVENT_BYTES)];
static _Atomic uint64_t answered;

static void must(int64_t rc)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "bench_events: %s\n", strerror((int)-rc));
	exit(1);
}

static void hear(void *who, uint32_t pasid, uint32_t grpid, uint32_t code)
{
	(void)pasid, (void)grpid, (void)code;
	atomic_fetch_add_explicit((_Atomic uint64_t *)who, 1, memory_order_relaxed);
}

static void raise_fault(uint32_t i)
{
	must(iof_fault_report(fault, &(struct iof_fault_request){
		.endpoint = &fault, .answer = hear, .who = &answered, .dev_id = 1, .flags = IOF_FAULT_LAST_PAGE,
		.grpid = i, .perm = IOF_FAULT_READ, .addr = (uint64_t)i << 12 }));
}

static void report_event(uint32_t i)
{
	uint64_t event[EVENT_BYTES / 8] = { i };

	must(iof_veventq_report(&viommu, TYPE, event, sizeof(event)));
}

/* Reads and answers what is there: how many. */
static uint64_t take_faults(size_t room)
{
	int64_t n = iof_read(fault_file, records, room * sizeof(*records));

	must(n);
	n /= (int64_t)sizeof(*records);
	for (int64_t i = 0; i < n; i++)
		responses[i] = (struct iof_fault_response){ records[i].cookie, IOF_FAULT_SUCCESS };
	must(iof_write(fault_file, responses, (size_t)n * sizeof(*responses)));
	return (uint64_t)n;
}

static uint64_t take_events(size_t room)
{
	int64_t n = iof_read(event_file, stream, room * (8 + EVENT_BYTES));

	must(n);
	return (uint64_t)n / (8 + EVENT_BYTES);
}

struct queue {
	const char *name;
	void (*put)(uint32_t i);
	uint64_t (*take)(size_t room);
	struct iof_handle **file;
	size_t batch;
};

static void in_batches(void *arg)
{
	struct queue *q = arg;

	for (uint32_t done = 0; done < RECORDS; done += (uint32_t)q->batch) {
		for (uint32_t i = 0; i < q->batch; i++)
			q->put(i);
		for (uint64_t n = 0; n < q->batch;)
			n += q->take(q->batch);
	}
}

static void *produce(void *arg)
{
	struct queue *q = arg;

	for (uint32_t i = 0; i < RECORDS; i++)
		q->put(i);
	return NULL;
}

static void in_threads(void *arg)
{
	struct queue *q = arg;
	struct pollfd p = { .fd = iof_poll_fd(*q->file), .events = POLLIN };
	uint64_t n = 0;
	pthread_t t;

	must(-pthread_create(&t, NULL, produce, q));
	while (n < RECORDS) {
		must(poll(&p, 1, -1));
		n += q->take(RECORDS);
	}
	pthread_join(t, NULL);
}

/* A vIOMMU with no more in it than its queue needs: only the queue is measured. */
static uint32_t make_viommu(void)
{
	struct iof_objects *t = &iofi_engine(ctx)->file.ctx->objects;

	iof_lock_init(&viommu.lock, false);
	must(iof_object_reserve(t, &viommu.object, IOF_OBJECT_VIOMMU));
	iof_object_publish(&viommu.object);
	return viommu.object.id;
}

static void open_queues(struct iof_machine *m)
{
	struct iof_cmd_fault_queue_alloc f = { .size = sizeof(f) };
	struct iof_cmd_veventq_alloc v = { .size = sizeof(v), .viommu_id = make_viommu(), .type = TYPE,
					   .veventq_depth = IOF_VEVENTQ_DEPTH_MAX };

	must(iof_ioctl(ctx, IOF_CMD_FAULT_QUEUE_ALLOC, &f));
	must(iof_file_handle(m, (int)f.out_fault_fd, &fault_file));
	must(iof_ioctl(ctx, IOF_CMD_VEVENTQ_ALLOC, &v));
	must(iof_file_handle(m, (int)v.out_veventq_fd, &event_file));
	fault = iofi_engine(fault_file)->file.object;
}

static void measure(const struct bench *b, struct queue *q)
{
	static const size_t batches[] = { 1, 16, 256, RECORDS };
	char name[64];

	for (unsigned i = 0; i < sizeof(batches) / sizeof(*batches); i++) {
		q->batch = batches[i];
		snprintf(name, sizeof(name), "%s/batch/%zu", q->name, q->batch);
		bench_run(b, name, RECORDS, in_batches, NULL, q);
	}
	snprintf(name, sizeof(name), "%s/threads", q->name);
	bench_run(b, name, RECORDS, in_threads, NULL, q);
}

int main(int argc, char **argv)
{
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL };
	struct bench b = { .name = "events", .only = argc > 1 ? argv[1] : NULL, .rounds = 51 };
	struct queue faults = { "fault", raise_fault, take_faults, &fault_file, 0 };
	struct queue events = { "veventq", report_event, take_events, &event_file, 0 };
	struct iof_machine *m;

	must(iof_machine_create(&cfg, &m));
	must(iof_engine_open(m, &ctx));
	open_queues(m);
	measure(&b, &faults);
	measure(&b, &events);
	return 0; /* the vIOMMU is ours, so nothing is closed */
}
